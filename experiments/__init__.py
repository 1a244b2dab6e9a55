"""The front door: command line, presets, Meta-World, run folders, reports."""

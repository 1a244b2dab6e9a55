"""A run on disk and its process: folder, metrics, checkpoints, progress, settings, and how it is asked to stop."""

"""Run a command many times over a space of settings and over seeds, and say which settings were best."""

"""The front door: a room for each command, and below them simulators, data sets and runs on disk."""

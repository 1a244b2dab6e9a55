"""Learning to act: the episodes, replay and loop that all algorithms share, and one folder per algorithm."""

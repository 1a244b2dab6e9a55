"""Other published agents, trained on the same tasks for comparison."""

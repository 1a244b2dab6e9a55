"""The error that a user's own words cause."""


class UsageError(ValueError):
    """What was asked for cannot be run; one sentence says why and what to do."""

"""The base of every error that a user can mend."""


class UserError(Exception):
    """One sentence that says what is wrong, where, and what to do; the command line prints it without a traceback."""

"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something the user can mend: what is wrong, where (file, key or setting), and what to do.

    The message is one line. The command line prints it without a traceback and exits with code 2.
    """

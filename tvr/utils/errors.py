"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """A mistake in the flags, the files or the environment.

    The message names the flag, file or row, what was seen and what to do. `main_retrieval.py`
    prints it without a traceback and exits with code 2. Our own broken invariants use `assert`.
    """

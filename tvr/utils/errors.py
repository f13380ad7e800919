"""The exceptions that a user is meant to read."""


class UserError(ValueError):
    """A mistake in the flags, the files or the environment.

    The message names the flag, file or row, what was seen and what to do. `main_retrieval.py`
    prints it without a traceback and exits with code 2. Our own broken invariants use `assert`.
    """


class LocalError(UserError):
    """A user's mistake that perhaps only this process sees, such as one unreadable video.

    The process that meets it reports it, whatever its rank; all other mistakes are the same for
    every process of a machine and are reported by the first.
    """

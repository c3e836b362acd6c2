"""The one exception for mistakes that a user can mend."""


class InputError(ValueError):
    """A wrong input: one sentence that says what is wrong, where (file, row, key) and what to do.

    The command line prints the sentence alone and exits with status 2. A ValueError, so that pydantic reports it with
    the key of the setting in which it was found.
    """

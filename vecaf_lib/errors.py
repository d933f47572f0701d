"""The one exception that means: the input is wrong, and this sentence says how to mend it."""


class BadInput(ValueError):
    """Raised with a single sentence that names the file, field or value and what would be right."""

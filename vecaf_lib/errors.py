"""Wrong input, in one sentence for whoever gave it."""

from collections.abc import Iterable
from difflib import get_close_matches

LISTED = 30  # names in a sentence, at most


class BadInput(ValueError):
    """Raised with a single sentence that names the file, field or value and what would be right."""


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """End of a sentence about an unknown name: the nearest choice, then all of them, in order.

    "did you mean 'ods'? known are: activeft, ods, random", without the question where none is near.
    """
    names = list(choices)
    near = get_close_matches(str(name), names, n=1)
    question = f"did you mean {near[0]!r}? " if near else ""
    rest = f", ... ({len(names):,} in all)" if len(names) > LISTED else ""
    return f"{question}known are: {', '.join(names[:LISTED]) or 'none'}{rest}"

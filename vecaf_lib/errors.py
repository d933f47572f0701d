"""Wrong input, in one sentence for whoever gave it."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from textwrap import shorten

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


def reason(error: Exception) -> str:
    """What a library says, in a line; not its advice to load what it refused by running code."""
    text = " ".join(str(error).split())
    if re.search("weights[_ ]only|trust_remote_code|allow_pickle", text, re.IGNORECASE):
        text = (
            "it is damaged, or has code or objects besides numbers, which are never run; "
            "give safetensors or plain arrays, and models of the library's own kinds"
        )
    return shorten(text, 300, placeholder=" ...") or repr(error)

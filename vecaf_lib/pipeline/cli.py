"""What all command lines of the pipeline share: bad input ends in one sentence, not a traceback."""

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NoReturn

from vecaf_lib.errors import BadInput


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Call ``main`` with the command line's arguments and end the process.

    ``BadInput`` becomes its sentence on stderr and exit status 1.
    """
    try:
        main(sys.argv[1:])
    except BadInput as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def suggestion(name: str, known: Sequence[str]) -> str:
    """Name what is known, and the nearest to ``name`` first if there is one that is near."""
    nearest = get_close_matches(name, known, n=1)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    return f"{hint}known are: {', '.join(known) or 'none'}"

"""What a checkpoint holds too little or too much of, in one sentence."""

from collections.abc import Iterable
from pathlib import Path

from vecaf_lib.errors import BadInput

SHOWN = 3


def refuse_unfit(
    place: Path, *, missing: Iterable[str], surplus: Iterable[str], unlike: Iterable[str]
) -> None:
    """Refuse weights that are not exactly those of the encoder.

    Args:
        place: the checkpoint, for the sentence.
        missing: names that the encoder has and the checkpoint has not.
        surplus: names that the checkpoint has and the encoder has not.
        unlike: names that both have, in different shapes.

    Raises:
        BadInput: there is any such name.
    """
    faults = {
        "lacks": sorted(missing),
        "has besides": sorted(surplus),
        "has in another shape": sorted(unlike),
    }
    found = [f"{verb} {_first(names)}" for verb, names in faults.items() if names]
    if found:
        raise BadInput(f"text.weights: {place} does not fit the encoder: it {', it '.join(found)}.")


def _first(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

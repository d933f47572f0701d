"""What the abstract, the text and the figures claim, and what contradicts itself."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.report.claims.paper import Paper, filled, holds, same
from vecaf_lib.report.verdicts import Kind, Number

SAYS = {  # what a sentence says of two numbers -> the sign that is printed where it is false
    "equal": "≠",
    "less": "≥",
    "more": "≤",
    "at most": ">",
    "at least": "<",
}


@dataclass(frozen=True)
class Claim:
    """A row of the ledger before anything of ours is looked at.

    Attributes:
        ours: id of our cell of a printed number, perhaps with ``*``; empty where there is none.
        test: from claims.yaml: kind of test and its specification, in order.
    """

    id: str
    where: str
    statement: str
    number: Number
    unit: str
    kind: Kind
    scope: str
    ours: str = ""
    test: tuple[tuple[str, Mapping[str, Any]], ...] = ()


def text_claims(paper: Paper) -> Iterator[Claim]:
    """The claims of abstract, text and figures, in the order of claims.yaml.

    Raises:
        BadInput: a ``check`` does not come out at the value that the paper prints.
    """
    for entry in paper.content["claims"]:
        id, unit = entry["id"], entry["unit"]
        value = paper.number(entry["value"], id)[0] if "value" in entry else math.nan
        if "check" in entry:
            found, text = paper.number(entry["check"], id)
            if not same(found, value):
                raise BadInput(f"{paper.file}: {id} says {value:g}, but {text}; correct one.")
        tests = entry.get("tests", [entry.get("test")])
        test = tuple((*each.items(),)[0] for each in tests if each != "none")
        compares = any(kind in ("difference", "ratio_of_batches") for kind, _ in test)
        yield Claim(
            id,
            entry["where"],
            f"{entry['statement'].format(value=f'{value:.3g}')}.",
            Number(value),
            unit,
            "direction" if compares or math.isnan(value) else "value",
            entry["scope"],
            test=test,
        )


def contradictions(paper: Paper) -> Iterator[Claim]:
    """What excludes itself in the paper, each with the arithmetic that shows it, done here.

    Raises:
        BadInput: an entry's numbers do not contradict what the paper says of them.
    """
    for entry in paper.content["contradictions"]:
        id, says = entry["id"], entry["says"]
        if says not in SAYS:
            raise BadInput(f"{paper.file}: {id}.says is {says!r}, not one of {', '.join(SAYS)}.")
        each = entry.get("each")
        fills: list[dict[str, Any]] = (
            paper.rows(each, id)[each["take"]].to_dict("records") if each else [{}]
        )
        shown, false, right = [], [], math.nan
        for fill in fills:
            left, left_text = paper.number(filled(entry["left"], fill), id)
            right, right_text = paper.number(filled(entry["right"], fill), id)
            if not holds(left, says, right):
                false.append(fill)
                shown.append(f"{left_text} {SAYS[says]} {right_text}")
        if not false or (entry.get("violated") != "some" and len(false) < len(fills)):
            raise BadInput(
                f"{paper.file}: {id} is no contradiction, what the paper says holds for "
                f"{len(fills) - len(false)} of {len(fills)}; correct the entry or drop it."
            )
        printed = Number(
            right if len(shown) == 1 or not isinstance(entry["right"], dict) else math.nan
        )
        statement = f"{entry['statement'].strip()} {'; '.join(shown)}."
        yield Claim(
            id, entry["where"], statement, printed, entry["unit"], "contradiction", "the paper"
        )

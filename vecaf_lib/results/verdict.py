"""The verdict on a claim of the paper: one rule for all claims, which sees only numbers."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

REPRODUCED = "reproduced"
DIRECTION = "same direction"
UNDECIDED = "undecided"
OPPOSITE = "opposite"
NOT_RUN = "not run"
BROKEN = "training broken"
CONTRADICTS = "contradicts itself in the paper"
SETTING = "a setting"
VERDICTS = (
    REPRODUCED, DIRECTION, UNDECIDED, OPPOSITE, NOT_RUN, BROKEN, CONTRADICTS, SETTING,
)  # fmt: skip

CONFIDENCE = 1.96  # of a normal distribution's 95 % interval
POINTS = 0.5  # what two numbers in percent may differ in any case
SHARE = 0.05  # the same for numbers of another unit, as a share of the paper's
SEEDS = 3  # the fewest that a verdict is based on; the paper's own number of repetitions
# Points of validation accuracy between trainings that begin alike and see the same batches. With
# LearnLoss' predictor: 0 where its gradient stops before the model, 30 where it swamps the model's.
APART = 5.0


@dataclass(frozen=True)
class Number:
    """A number with its standard error over ``n`` seeds; NaN and None where there is none."""

    value: float
    standard_error: float = math.nan
    n: int | None = None


@dataclass(frozen=True)
class Effect:
    """One comparison that a claim speaks of.

    Attributes:
        mean, low, high: ours with its 95 % interval: a difference in points, or a quotient.
        n: seeds that it is the mean of.
        paper: the paper's size of the same effect; NaN where none can be read off.
        neutral: what no effect would be: 0 for a difference, 1 for a quotient.
    """

    mean: float
    low: float
    high: float
    n: int
    paper: float = math.nan
    neutral: float = 0.0

    @property
    def smallest(self) -> float:
        """The smallest difference that could have been seen: half the interval's width."""
        return (self.high - self.low) / 2


class Verdict(NamedTuple):
    """The verdict, and which part of the rule gave it, in words."""

    text: str
    rule: str


def rule() -> str:
    """The rule as MyST Markdown, which is the text of :func:`verdict` itself."""
    return inspect.cleandoc(verdict.__doc__ or "").partition("\n\nArgs:")[0]


def broken_training(first_loops: pd.DataFrame, limit: float = APART) -> dict[str, float]:
    """Methods that learn something else than random selection does from one and the same first set.

    Such a method's rows say nothing of what it selects: it is not ranked. By method its mean
    distance over paired seeds, with its sign, at the ratio where it is largest, if more than
    ``limit`` points. ``first_loops``: of ``frame.first_loops``, methods that finetune alike.
    """
    if first_loops.empty:
        return {}
    place = ["ratio", "loops", "seed", "target", "reading", "first_set"]
    is_random = first_loops["method"] == "random"
    random = first_loops[is_random].drop_duplicates(place)  # fresh and kept begin alike
    pairs = first_loops[~is_random].merge(random, on=place, suffixes=("", "_random"))
    pairs["gap"] = pairs["validation_accuracy"] - pairs["validation_accuracy_random"]
    means = pairs.groupby(["method", "ratio"], as_index=False)["gap"].mean()
    worst = means[means["gap"].abs() > limit].sort_values("gap", key=abs)
    return dict(zip(worst["method"], worst["gap"], strict=True))  # the largest stays


def verdict(
    kind: Literal["value", "direction", "contradiction", "setting"],
    *,
    paper_setting: bool,
    general: bool = False,
    ours: Number | None = None,
    theirs: Number | None = None,
    percent: bool = True,
    effects: Sequence[Effect] = (),
    missing: Sequence[str] = (),
    broken: Sequence[str] = (),
    expect: Literal["higher", "lower"] = "higher",
    up_to: bool = False,
) -> Verdict:
    """One rule gives all verdicts.

    The *paper's setting* is met where the profile has the data set of the claim, the paper's model
    and its number of steps; a profile says so of itself, and the others never meet it.

    1. A **contradiction** is two printed numbers, or a sentence and a number, that exclude each
       other. The arithmetic is done anew from `data/paper` each time: *contradicts itself in the
       paper*, whatever we measure. If it should come out even, the ledger is not made at all.
    2. A **printed number**, and a claim bound to a data set: *not run* if the paper's setting is
       not met or there is no such cell. Our number of the same cell is shown nevertheless where
       it is of the claim's data set, and never one of another.
    3. A printed number in the paper's setting: *reproduced* if ours differs from it by no more
       than 1.96 standard errors of the difference or 0.5 points, whichever is more (5 % of the
       printed number in place of 0.5 points where the unit is not percent); *opposite* if by more.
       *Undecided* with fewer than three seeds; a number that is counted, not sampled, needs none.
    4. A **direction**, in the paper's setting or claimed of no data set in particular: *same
       direction* if the 95 % interval of the paired difference lies on the claimed side of zero in
       every comparison that the claim speaks of; *reproduced* if moreover the paper's setting is
       met and the paper's size of each effect (of the largest, if the claim says "up to") lies in
       our interval. *Opposite* if the whole interval of a comparison lies on the other side: one
       of at least three seeds is enough, whatever else is missing. *Not run* if a comparison is
       missing or has fewer seeds. Otherwise *undecided*: an interval that includes zero is no
       confirmation, and no refutation either; half its width is the smallest difference that could
       have been seen.
    5. What a figure's caption prints of how it was made is *a setting* and gets no verdict.
    6. *Training broken*, before rules 2 to 4, if a cell is of a method that after one and the same
       random first set is more than 5 points of validation accuracy away from random selection.

    Numbers of batches to a target accuracy are compared as quotients of means, on the claimed side
    of 1. Intervals stand alone: nothing is corrected for the number of comparisons.

    Args:
        general: the claim is bound to no data set.
        effects: the comparisons, for a direction; ``expect``: the claimed side.
        up_to: the paper's size belongs to the largest effect; ``broken``: of methods compared.
    """
    if kind == "contradiction":
        return Verdict(CONTRADICTS, "1: the paper's own numbers exclude each other")
    if kind == "setting":
        return Verdict(SETTING, "5: no claim")
    if broken:
        return Verdict(BROKEN, f"6: {', '.join(broken)}")
    if not paper_setting and not (general and kind == "direction"):
        return Verdict(NOT_RUN, "2: not the paper's setting")
    absent = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    if kind == "value":
        if ours is None or theirs is None or math.isnan(ours.value) or math.isnan(theirs.value):
            return Verdict(NOT_RUN, f"2: missing {absent or 'such a cell'}")
        errors = [0.0 if math.isnan(x.standard_error) else x.standard_error for x in (ours, theirs)]
        away = abs(ours.value - theirs.value)
        allowed = max(
            CONFIDENCE * math.hypot(*errors), POINTS if percent else SHARE * abs(theirs.value)
        )
        reason = f"3: differs by {away:.2f}, allowed {allowed:.2f}"
        if ours.n is not None and ours.n < SEEDS:
            return Verdict(UNDECIDED, f"{reason}, but {ours.n} of at least {SEEDS} seeds")
        return Verdict(REPRODUCED if away <= allowed else OPPOSITE, reason)
    enough = [effect for effect in effects if effect.n >= SEEDS]
    above = sum(effect.low > effect.neutral for effect in enough)
    below = sum(effect.high < effect.neutral for effect in enough)
    held, against = (above, below) if expect == "higher" else (below, above)
    reason = f"4: {held} of {len(effects)} intervals on the claimed side"
    if against:
        return Verdict(OPPOSITE, f"{reason}, {against} on the other")
    if missing or not effects:
        return Verdict(NOT_RUN, f"4: missing {absent or 'every comparison'}")
    if len(enough) < len(effects):
        fewest = min(effect.n for effect in effects)
        return Verdict(NOT_RUN, f"4: a comparison has {fewest} of at least {SEEDS} seeds")
    if held < len(effects):
        return Verdict(UNDECIDED, reason)
    largest = (max if expect == "higher" else min)(effects, key=lambda effect: effect.mean)
    fits = [e.low <= e.paper <= e.high for e in ([largest] if up_to else effects)]  # NaN is False
    if paper_setting and all(fits):
        return Verdict(REPRODUCED, f"{reason}, the paper's size in ours")
    return Verdict(DIRECTION, reason)

"""The verdict on a claim of the paper: one rule for all claims, which sees only numbers."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

REPRODUCED = "reproduced"
DIRECTION = "direction only"
NOT = "not reproduced"
NOT_RUN = "not run at this size"
CONTRADICTS = "contradicts itself in the paper"
SETTING = "a setting, no claim"
VERDICTS = (REPRODUCED, DIRECTION, NOT, NOT_RUN, CONTRADICTS, SETTING)

Kind = Literal["value", "direction", "contradiction", "setting"]
Expect = Literal["higher", "lower"]

CONFIDENCE = 1.96  # of a normal distribution's 95 % interval
POINTS = 0.5  # what two numbers in percent may differ in any case
SHARE = 0.05  # the same for numbers of another unit, as a share of the paper's
SEEDS = 3  # the fewest that a verdict is based on; the paper's own number of repetitions


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

    def towards(self, expect: Expect) -> bool:
        """Whether the whole interval lies on the claimed side of no effect."""
        return self.low > self.neutral if expect == "higher" else self.high < self.neutral


@dataclass(frozen=True)
class Verdict:
    """The verdict, and which part of the rule gave it, in words."""

    text: str
    rule: str


def rule() -> str:
    """The rule as MyST Markdown, which is the text of :func:`verdict` itself."""
    return inspect.cleandoc(verdict.__doc__ or "").partition("\n\nArgs:")[0]


def verdict(
    kind: Kind,
    *,
    paper_setting: bool,
    general: bool = False,
    ours: Number | None = None,
    theirs: Number | None = None,
    percent: bool = True,
    effects: Sequence[Effect] = (),
    missing: Sequence[str] = (),
    expect: Expect = "higher",
    up_to: bool = False,
) -> Verdict:
    """One rule gives all verdicts.

    The *paper's setting* is met where the profile has the data set of the claim, the paper's model
    and its number of steps; a profile says so of itself, and the others never meet it.

    1. A **contradiction** is two printed numbers, or a sentence and a number, that exclude each
       other. The arithmetic is done anew from `data/paper` each time: *contradicts itself in the
       paper*, whatever we measure. If it should come out even, the ledger is not made at all.
    2. A **printed number**, and a claim bound to a data set: *not run at this size* if the paper's
       setting is not met or there is no such cell. Our number of the same cell is shown
       nevertheless, as one of another setting.
    3. A printed number in the paper's setting: *reproduced* if ours differs from it by no more
       than 1.96 standard errors of the difference or 0.5 points, whichever is more (5 % of the
       printed number in place of 0.5 points where the unit is not percent), over at least three
       seeds; a number that is counted, not sampled, needs no seeds. Otherwise *not reproduced*.
    4. A **direction**, in the paper's setting or claimed of no data set in particular: *direction
       only* if the 95 % interval of the paired difference lies on the claimed side of zero in
       every comparison that the claim speaks of; *reproduced* if moreover the paper's setting is
       met and the paper's size of each effect (of the largest, if the claim says "up to") lies in
       our interval. *Not run at this size* if a comparison is missing or has fewer than three
       seeds. Otherwise *not reproduced*: an interval that includes zero is no confirmation, and no
       refutation either.
    5. A **setting** that a figure's caption prints is *no claim* and gets no verdict.

    Numbers of batches to a target accuracy are compared as quotients of means, on the claimed side
    of 1. Intervals stand alone: nothing is corrected for the number of comparisons.

    Args:
        kind: of the claim.
        paper_setting: whether the profile meets the paper's setting for this claim.
        general: the claim is bound to no data set.
        ours, theirs: the numbers, for a printed number.
        percent: whether they are in percent.
        effects: the comparisons, for a direction.
        missing: names of what is not there.
        expect: the claimed side.
        up_to: the paper's size belongs to the largest effect alone.

    Returns:
        The verdict; its ``rule`` names the number above and says why.
    """
    if kind == "contradiction":
        return Verdict(CONTRADICTS, "1: the paper's own numbers exclude each other")
    if kind == "setting":
        return Verdict(SETTING, "5: no claim")
    if not paper_setting and not (general and kind == "direction"):
        return Verdict(NOT_RUN, "2: not the paper's setting")
    if kind == "value":
        return _value(ours, theirs, percent, missing)
    if missing or not effects:
        return Verdict(NOT_RUN, f"4: missing {_few(missing) or 'every comparison'}")
    if few := [effect.n for effect in effects if effect.n < SEEDS]:
        return Verdict(NOT_RUN, f"4: a comparison has {min(few)} of at least {SEEDS} seeds")
    held = sum(effect.towards(expect) for effect in effects)
    told = f"4: {held} of {len(effects)} intervals on the claimed side"
    if held < len(effects):
        return Verdict(NOT, told)
    if paper_setting and _size_fits(effects, expect, up_to):
        return Verdict(REPRODUCED, f"{told}, the paper's size in ours")
    return Verdict(DIRECTION, told)


def tolerance(ours: Number, theirs: Number, percent: bool) -> float:
    """How far ours may lie from theirs for a printed number to count as reproduced."""
    errors = [0.0 if math.isnan(e) else e for e in (ours.standard_error, theirs.standard_error)]
    floor = POINTS if percent else SHARE * abs(theirs.value)
    return max(CONFIDENCE * math.hypot(*errors), floor)


def _value(
    ours: Number | None, theirs: Number | None, percent: bool, missing: Sequence[str]
) -> Verdict:
    if ours is None or theirs is None or math.isnan(ours.value) or math.isnan(theirs.value):
        return Verdict(NOT_RUN, f"2: missing {_few(missing) or 'such a cell'}")
    away, allowed = abs(ours.value - theirs.value), tolerance(ours, theirs, percent)
    told = f"3: differs by {away:.2f}, allowed {allowed:.2f}"
    if ours.n is not None and ours.n < SEEDS:
        return Verdict(NOT, f"{told}, but {ours.n} of at least {SEEDS} seeds")
    return Verdict(REPRODUCED if away <= allowed else NOT, told)


def _size_fits(effects: Sequence[Effect], expect: Expect, up_to: bool) -> bool:
    sign = 1 if expect == "higher" else -1
    asked = [max(effects, key=lambda effect: sign * effect.mean)] if up_to else effects
    return all(effect.low <= effect.paper <= effect.high for effect in asked)  # NaN is False


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

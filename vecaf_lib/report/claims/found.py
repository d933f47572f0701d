"""What our tables say to one claim of the paper."""

from dataclasses import dataclass

from vecaf_lib.report.verdicts import Effect, Expect, Number


@dataclass(frozen=True)
class Found:
    """What our tables say to one claim."""

    ours: Number | None = None
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()
    expect: Expect = "higher"
    up_to: bool = False
    cells: tuple[tuple[str, ...], ...] = ()  # ids, of each effect or of the number
    runs: tuple[str, ...] = ()

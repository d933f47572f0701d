"""The rule for verdicts, branch by branch, and what must hold of it whatever the numbers."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecaf_lib.results.verdict import (
    BROKEN,
    CONTRADICTS,
    DIRECTION,
    NOT_RUN,
    OPPOSITE,
    REPRODUCED,
    SETTING,
    UNDECIDED,
    VERDICTS,
    Effect,
    Number,
    broken_training,
    rule,
    verdict,
)

ABOVE = Effect(2.0, 1.0, 3.0, 3, paper=2.5)
ACROSS = Effect(0.5, -1.0, 2.0, 3, paper=0.5)
points = st.floats(-50, 50)
effects = st.builds(
    lambda mean, reach, n, paper: Effect(mean, mean - reach, mean + reach, n, paper),
    points,
    st.floats(0, 20),
    st.integers(1, 9),
    points,
)


def value(ours: Number | None, theirs: Number, **kinds: object) -> str:
    settings = {"paper_setting": True, **kinds}
    return verdict("value", ours=ours, theirs=theirs, **settings).text


def direction(*found: Effect, paper_setting: bool = False, **options: object) -> str:
    return verdict(
        "direction", paper_setting=paper_setting, general=True, effects=found, **options
    ).text


@pytest.mark.parametrize("met", [True, False])
def test_contradictions_and_settings_do_not_depend_on_us(met: bool) -> None:
    assert verdict("contradiction", paper_setting=met, effects=[ACROSS]).text == CONTRADICTS
    assert verdict("setting", paper_setting=met, ours=Number(1.0, n=3)).text == SETTING


@given(st.floats(0, 100), st.floats(0, 100))
def test_outside_the_papers_setting_no_printed_number_gets_a_verdict(a: float, b: float) -> None:
    for general in (True, False):
        told = verdict(
            "value",
            paper_setting=False,
            general=general,
            ours=Number(a, 0.1, 3),
            theirs=Number(b, 0.1, 3),
        )
        assert told.text == NOT_RUN
        assert told.rule.startswith("2")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (Number(93.07, 0.0, 3), Number(93.57, 0.02), REPRODUCED),  # 0.5 points away
        (Number(93.06, 0.0, 3), Number(93.57, 0.02), OPPOSITE),
        (Number(92.57, 0.5, 3), Number(93.57, 0.2), REPRODUCED),  # 1.96 x 0.54 = 1.06
        (Number(92.57, 0.4, 3), Number(93.57, 0.2), OPPOSITE),  # 1.96 x 0.45 = 0.88
        (Number(93.57, 0.0, 2), Number(93.57, 0.02), UNDECIDED),  # two seeds
        (Number(93.57, math.nan, 1), Number(93.57, 0.02), UNDECIDED),
        (Number(math.nan, 0.1, 3), Number(93.57, 0.02), NOT_RUN),
        (None, Number(93.57, 0.02), NOT_RUN),
        (Number(105.0), Number(100.0), REPRODUCED),  # counted, no percent: no seeds, and 5 %
        (Number(105.1), Number(100.0), OPPOSITE),
    ],
)
def test_printed_numbers(ours: Number | None, theirs: Number, expected: str) -> None:
    assert value(ours, theirs, percent=theirs.value < 100) == expected


@given(st.floats(0, 100), st.floats(0, 5), st.floats(0, 5), st.floats(-20, 20))
def test_printed_numbers_are_treated_alike_above_and_below(
    theirs: float, error: float, their_error: float, away: float
) -> None:
    both = {
        value(Number(theirs + sign * away, error, 3), Number(theirs, their_error))
        for sign in (1, -1)
    }
    reach = max(1.96 * math.hypot(error, their_error), 0.5)
    if abs(abs(away) - reach) > 1e-6:
        assert both == {REPRODUCED if abs(away) < reach else OPPOSITE}


def test_directions() -> None:
    assert verdict("direction", paper_setting=False, effects=[ABOVE]).text == NOT_RUN  # not general
    assert direction(ABOVE) == DIRECTION
    assert direction(ABOVE, ABOVE) == DIRECTION
    assert direction(ABOVE, ACROSS) == UNDECIDED
    assert direction(replace(ABOVE, low=0.0)) == UNDECIDED
    assert direction(ABOVE, expect="lower") == OPPOSITE
    assert direction(ACROSS, replace(ABOVE, high=-0.1, low=-1.0)) == OPPOSITE  # one is enough
    assert direction(replace(ABOVE, low=-1.0, high=0.0)) == UNDECIDED  # zero is in it
    assert direction(ABOVE, expect="lower", missing=["table1/ta_vaal/multi/r5"]) == OPPOSITE
    assert direction(replace(ABOVE, n=2), expect="lower") == NOT_RUN
    assert direction(Effect(-2.0, -3.0, -1.0, 3), expect="lower") == DIRECTION
    assert direction() == NOT_RUN
    assert direction(ABOVE, missing=["table1/learnloss/multi/r5"]) == NOT_RUN
    assert direction(ABOVE, replace(ABOVE, n=2)) == NOT_RUN
    assert direction(replace(ABOVE, neutral=1.5)) == UNDECIDED  # a quotient is compared with 1
    assert direction(replace(ABOVE, neutral=3.5)) == OPPOSITE


def test_the_smallest_difference_that_could_have_been_seen() -> None:
    assert (ABOVE.smallest, ACROSS.smallest) == (1.0, 1.5)


def test_the_papers_size_counts_in_the_papers_setting_only() -> None:
    assert direction(ABOVE, paper_setting=True) == REPRODUCED
    assert direction(ABOVE) == DIRECTION
    far = replace(ABOVE, paper=3.1)
    assert direction(far, paper_setting=True) == DIRECTION
    assert direction(ABOVE, far, paper_setting=True) == DIRECTION
    assert direction(replace(ABOVE, paper=math.nan), paper_setting=True) == DIRECTION
    larger = Effect(4.0, 3.5, 4.5, 3, paper=4.2)
    small = replace(ABOVE, paper=4.2)
    assert direction(small, larger, paper_setting=True) == DIRECTION
    assert direction(small, larger, paper_setting=True, up_to=True) == REPRODUCED
    below = [Effect(-e.mean, -e.high, -e.low, 3, -e.paper) for e in (small, larger)]
    assert direction(*below, paper_setting=True, up_to=True, expect="lower") == REPRODUCED


@given(st.lists(effects, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_more_comparisons_never_help(found: list[Effect], met: bool, up_to: bool) -> None:
    order = [NOT_RUN, OPPOSITE, UNDECIDED, DIRECTION, REPRODUCED]
    whole = direction(*found, paper_setting=met)
    for left_out in range(len(found)):
        rest = [effect for i, effect in enumerate(found) if i != left_out]
        if rest and all(effect.n >= 3 for effect in found):
            assert order.index(direction(*rest, paper_setting=met)) >= order.index(whole)
    told = direction(*found, paper_setting=met, up_to=up_to)
    if told in (DIRECTION, REPRODUCED):
        assert all(effect.low > 0 for effect in found)
    if told == OPPOSITE:
        assert any(effect.high < 0 for effect in found)
    if told == REPRODUCED:
        assert met


@given(st.lists(effects, min_size=1, max_size=4))
def test_higher_and_lower_mirror_each_other(found: list[Effect]) -> None:
    mirrored = [Effect(-e.mean, -e.high, -e.low, e.n, -e.paper) for e in found]
    for met in (True, False):
        assert direction(*found, paper_setting=met) == direction(
            *mirrored, paper_setting=met, expect="lower"
        )


def test_the_rule_that_is_printed_names_every_verdict() -> None:
    text = " ".join(rule().split())
    assert "Args" not in text
    for name in VERDICTS:
        assert f"*{name}*" in text.replace(name.capitalize(), name)
    assert "1.96" in text
    assert "0.5 points" in text


def first_loops(**methods: dict[int, tuple[str, float]]) -> pd.DataFrame:
    """A row a seed of each method: its first set, and the accuracy on validation after it."""
    place = {"ratio": 5.0, "loops": 3, "target": "", "reading": ""}
    return pd.DataFrame(
        [
            {"method": method, "seed": seed, "first_set": (first,), "validation_accuracy": accuracy}
            | place
            for method, seeds in methods.items()
            for seed, (first, accuracy) in seeds.items()
        ]
    )


def test_a_method_that_learns_otherwise_from_randoms_first_set_has_broken_training() -> None:
    frame = first_loops(
        random={0: ("a", 35.0), 1: ("b", 37.0)},
        learnloss={0: ("a", 5.0), 1: ("b", 9.0)},  # by 30 and 28 below
        alfa_mix={0: ("a", 41.0), 1: ("b", 39.0)},  # by 6 and 2 above, 4 in the mean
        activeft={0: ("c", 5.0), 1: ("d", 5.0)},  # a first set of its own
    )
    assert broken_training(frame) == {"learnloss": -29.0}
    assert broken_training(frame, limit=3.9) == {"alfa_mix": 4.0, "learnloss": -29.0}
    twice = pd.concat([frame, frame.assign(sets="kept")])  # whose first loop is the same
    assert broken_training(twice) == {"learnloss": -29.0}
    other = frame.assign(ratio=2.0, validation_accuracy=40.0)
    assert broken_training(pd.concat([other, frame])) == {"learnloss": -29.0}  # the worst ratio
    assert broken_training(frame[frame["method"] != "random"]) == {}
    assert broken_training(frame.iloc[:0]) == {}


def test_a_comparison_with_broken_training_is_no_evidence() -> None:
    for kinds in ({"effects": [ABOVE]}, {"effects": [ABOVE], "paper_setting": True}):
        settings = {"paper_setting": False, "general": True, "broken": ["learnloss"], **kinds}
        assert verdict("direction", **settings) == (BROKEN, "6: learnloss")
    assert value(Number(93.5, 0.0, 3), Number(93.57, 0.02), broken=["learnloss"]) == BROKEN
    assert verdict("setting", paper_setting=False, broken=["learnloss"]).text == SETTING

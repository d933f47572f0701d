"""The rule for verdicts, branch by branch, and what must hold of it whatever the numbers."""

import math
from collections import namedtuple
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest
from cells import NOTEBOOKS, cell
from hypothesis import given
from hypothesis import strategies as st

from vecaf_lib.pipeline.notebooks import read_notebook
from vecaf_lib.results.frame import APART

NAMES = cell("55_claims.ipynb", "def verdict", math=math, namedtuple=namedtuple)
Effect, Number, verdict = NAMES["Effect"], NAMES["Number"], NAMES["verdict"]
broken_training = cell("40_tables.ipynb", "def broken_training", APART=APART)["broken_training"]
ABOVE = Effect(2.0, 1.0, 3.0, 3, paper=2.5)
ACROSS = Effect(0.5, -1.0, 2.0, 3, paper=0.5)
points = st.floats(-50, 50)
effects = st.builds(
    lambda mean, reach, n, paper: Effect(mean, mean - reach, mean + reach, n, paper),
    *(points, st.floats(0, 20), st.integers(1, 9), points),
)


def value(ours: Any, theirs: Any, **kinds: object) -> str:
    settings = {"paper_setting": True, **kinds}
    return verdict("value", ours=ours, theirs=theirs, **settings).text


def direction(*found: Any, **kinds: object) -> str:
    settings = {"paper_setting": False, "general": True, **kinds}
    return verdict("direction", effects=found, **settings).text


@pytest.mark.parametrize("met", [True, False])
def test_contradictions_and_settings_do_not_depend_on_us(met: bool) -> None:
    told = verdict("contradiction", paper_setting=met, effects=[ACROSS])
    assert told.text == "contradicts itself in the paper"
    assert verdict("setting", paper_setting=met, ours=Number(1.0, n=3)).text == "a setting"


@given(st.floats(0, 100), st.floats(0, 100))
def test_outside_the_papers_setting_no_printed_number_gets_a_verdict(a: float, b: float) -> None:
    for general in (True, False):
        options = {"paper_setting": False, "general": general, "ours": Number(a, 0.1, 3)}
        told = verdict("value", theirs=Number(b, 0.1, 3), **options)
        assert told == ("not run", "2: not the paper's setting")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (Number(93.07, 0.0, 3), Number(93.57, 0.02), "reproduced"),  # 0.5 points away
        (Number(93.06, 0.0, 3), Number(93.57, 0.02), "opposite"),
        (Number(92.57, 0.5, 3), Number(93.57, 0.2), "reproduced"),  # 1.96 x 0.54 = 1.06
        (Number(92.57, 0.4, 3), Number(93.57, 0.2), "opposite"),  # 1.96 x 0.45 = 0.88
        (Number(93.57, 0.0, 2), Number(93.57, 0.02), "undecided"),  # two seeds
        (Number(93.57, math.nan, 1), Number(93.57, 0.02), "undecided"),
        (Number(math.nan, 0.1, 3), Number(93.57, 0.02), "not run"),
        (None, Number(93.57, 0.02), "not run"),
        (Number(105.0), Number(100.0), "reproduced"),  # counted, no percent: no seeds, and 5 %
        (Number(105.1), Number(100.0), "opposite"),
    ],
)
def test_printed_numbers(ours: Any, theirs: Any, expected: str) -> None:
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
        assert both == {"reproduced" if abs(away) < reach else "opposite"}


def test_directions() -> None:
    assert verdict("direction", paper_setting=False, effects=[ABOVE]).text == "not run"
    assert direction(ABOVE) == "same direction"
    assert direction(ABOVE, ABOVE) == "same direction"
    assert direction(ABOVE, ACROSS) == "undecided"
    assert direction(ABOVE._replace(low=0.0)) == "undecided"
    assert direction(ABOVE, expect="lower") == "opposite"
    assert direction(ACROSS, ABOVE._replace(high=-0.1, low=-1.0)) == "opposite"  # one is enough
    assert direction(ABOVE._replace(low=-1.0, high=0.0)) == "undecided"  # zero is in it
    assert direction(ABOVE, expect="lower", missing=["table1/ta_vaal/multi/r5"]) == "opposite"
    assert direction(ABOVE._replace(n=2), expect="lower") == "not run"
    assert direction(Effect(-2.0, -3.0, -1.0, 3), expect="lower") == "same direction"
    assert direction() == "not run"
    assert direction(ABOVE, missing=["table1/learnloss/multi/r5"]) == "not run"
    assert direction(ABOVE, ABOVE._replace(n=2)) == "not run"
    assert direction(ABOVE._replace(neutral=1.5)) == "undecided"  # a quotient is compared with 1
    assert direction(ABOVE._replace(neutral=3.5)) == "opposite"


def test_the_papers_size_counts_in_the_papers_setting_only() -> None:
    assert direction(ABOVE, paper_setting=True) == "reproduced"
    assert direction(ABOVE) == "same direction"
    far = ABOVE._replace(paper=3.1)
    assert direction(far, paper_setting=True) == "same direction"
    assert direction(ABOVE, far, paper_setting=True) == "same direction"
    assert direction(ABOVE._replace(paper=math.nan), paper_setting=True) == "same direction"
    larger = Effect(4.0, 3.5, 4.5, 3, paper=4.2)
    small = ABOVE._replace(paper=4.2)
    assert direction(small, larger, paper_setting=True) == "same direction"
    assert direction(small, larger, paper_setting=True, up_to=True) == "reproduced"
    below = [Effect(-e.mean, -e.high, -e.low, 3, -e.paper) for e in (small, larger)]
    assert direction(*below, paper_setting=True, up_to=True, expect="lower") == "reproduced"


@given(st.lists(effects, min_size=1, max_size=5), st.booleans(), st.booleans())
def test_more_comparisons_never_help(found: list[Any], met: bool, up_to: bool) -> None:
    order = ["not run", "opposite", "undecided", "same direction", "reproduced"]
    whole = direction(*found, paper_setting=met)
    for left_out in range(len(found)):
        rest = [effect for i, effect in enumerate(found) if i != left_out]
        if rest and all(effect.n >= 3 for effect in found):
            assert order.index(direction(*rest, paper_setting=met)) >= order.index(whole)
    told = direction(*found, paper_setting=met, up_to=up_to)
    if told in ("same direction", "reproduced"):
        assert all(effect.low > 0 for effect in found)
    if told == "opposite":
        assert any(effect.high < 0 for effect in found)
    if told == "reproduced":
        assert met


@given(st.lists(effects, min_size=1, max_size=4))
def test_higher_and_lower_mirror_each_other(found: list[Any]) -> None:
    mirrored = [Effect(-e.mean, -e.high, -e.low, e.n, -e.paper) for e in found]
    for met in (True, False):
        told = direction(*mirrored, paper_setting=met, expect="lower")
        assert direction(*found, paper_setting=met) == told


def test_the_words_above_the_rule_name_every_verdict_and_limit() -> None:
    cells = pairwise(read_notebook(NOTEBOOKS / "55_claims.ipynb").cells)
    (words,) = (above.source for above, below in cells if "def verdict" in below.source)
    text = " ".join(words.split())
    verdicts = [word for name, word in NAMES.items() if name.isupper() and isinstance(word, str)]
    assert len(verdicts) == 8
    for word in verdicts:
        assert f"*{word}*" in text.replace(word.capitalize(), word)
    for limit in ("1.96 standard errors", "0.5 points", "5 %", "three seeds"):
        assert limit in text


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
        assert verdict("direction", **settings) == ("training broken", "6: learnloss")
    near = Number(93.5, 0.0, 3), Number(93.57, 0.02)
    assert value(*near, broken=["learnloss"]) == "training broken"
    assert verdict("setting", paper_setting=False, broken=["learnloss"]).text == "a setting"

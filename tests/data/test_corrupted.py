"""Generated corruptions: the same every time, each image on its own, no side effects."""

import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from vecaf_lib.data.corrupted import CorruptedImages
from vecaf_lib.data.images import ImageSet, ahead
from vecaf_lib.data.load import Corruption, load, load_lazily
from vecaf_lib.errors import BadInput

DATA = Path(__file__).parents[2] / "data"
NAMES = get_args(Corruption)
UNCHANGED = ("saturate", 1)  # which only takes colour from what has none
CLEAN = load("digits", "test", image_size=32, data=DATA)


def corrupted(image_size: int = 32, split: str = "test", **options: Any) -> ImageSet:
    options = {"corruption": "gaussian_noise", "severity": 3} | options
    return load_lazily("corrupted", split, image_size=image_size, data=DATA, options=options)


@pytest.mark.parametrize("name", NAMES)
def test_each_corruption(name: str) -> None:
    for severity in (1, 5):
        after = corrupted(corruption=name, severity=severity)
        assert after.ids[:2] == tuple(f"{i}+{name}-{severity}" for i in CLEAN.ids[:2])
        assert torch.equal(after.labels, CLEAN.labels)
        pair = after.images[[7, 2]]
        again = corrupted(corruption=name, severity=severity).images
        assert torch.equal(again[2], pair[1])  # whatever was made before, and beside it
        assert torch.equal(again[5:8][2], pair[0])
        assert torch.equal(pair[1], CLEAN.images[2]) == ((name, severity) == UNCHANGED)


@pytest.mark.parametrize("name", ["gaussian_noise", "impulse_noise", "frost", "glass_blur"])
def test_what_is_drawn_depends_on_the_seed_and_the_name_alone(name: str) -> None:
    same = corrupted(corruption=name).images
    other = corrupted(corruption=name, corruption_seed=1).images
    assert not torch.equal(same[0], other[0])
    grey = torch.full((2, 3, 32, 32), 90, dtype=torch.uint8)
    grey[:, :, 10:20, 5:15] = 200  # two equal images of different names
    first, second = CorruptedImages(grey, ["a", "b"], name, 3, 0)[:]
    assert not torch.equal(first, second)
    assert torch.equal(CorruptedImages(grey, ["b", "a"], name, 3, 0)[1], first)


def test_taking_loading_and_threads_make_no_difference() -> None:
    whole = corrupted(corruption="snow").images
    taken = corrupted(corruption="snow").subset([30, 4, 11])
    assert torch.equal(taken.images[:], whole[[30, 4, 11]])
    batches = list(ahead(whole[start : min(start + 4, 10)] for start in (0, 4, 8)))
    assert torch.equal(torch.cat(batches), whole[:10])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"corruption": "rain"}, r"options\.corruption is 'rain'; .*gaussian"),
        ({"severity": 6}, r"options\.severity is 6"),
        ({"of": "digit"}, "did you mean 'digits'"),
        ({"of_options": {"strong": True}}, "strong is not a setting"),
    ],
    ids=["corruption", "severity", "of", "of_options"],
)
def test_wrong_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        corrupted(**options)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "corrupt_tta", None)
    monkeypatch.delitem(sys.modules, "corrupt_tta.corruptions", raising=False)
    with pytest.raises(BadInput, match=r"pip install corrupt-tta"):
        corrupted()

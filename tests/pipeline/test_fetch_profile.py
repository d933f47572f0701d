"""`make fetch PROFILE=...` fetches what is absent, leaves what is there, and tries everything."""

from pathlib import Path
from typing import Any

import pytest

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import fetch as fetch_module
from vecaf_lib.pipeline.fetch import fetch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What would be fetched; nothing is."""
    calls: list[tuple[Any, ...]] = []
    for variable in ("VECAF_CIFAR10", "VECAF_IMAGENET"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(fetch_module, "fetch_images", lambda *a: calls.append(("images", *a)))
    monkeypatch.setattr(
        fetch_module.weights, "download", lambda name: calls.append(("vision", name))
    )
    monkeypatch.setattr(fetch_module.text, "download", lambda *a: calls.append(("text", *a)))
    monkeypatch.setattr(
        fetch_module.captions, "download", lambda name, o: calls.append((name, o.get("model")))
    )
    return calls


def profile(name: str) -> settings.Settings:
    return settings.read(ROOT / "profiles" / f"{name}.yaml")


def test_all_that_the_paper_needs(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    fetch(profile("paper-cifar10"), data=tmp_path)
    assert asked == [
        ("images", "cifar10", tmp_path),
        ("vision", "vit_base_patch16_224.dino"),
        ("text", "clip_vit_l", None, None),
        ("blip2", "Salesforce/blip2-opt-2.7b"),
    ]


def test_what_comes_in_packages_is_not_fetched(asked: list[tuple[Any, ...]]) -> None:
    fetch(profile("smoke"), data=ROOT / "data")
    assert asked == [("attributes", None)]  # which then has nothing to fetch


def test_what_fails_does_not_keep_the_rest(
    asked: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def refuse(*_: Any) -> None:
        raise BadInput("no network.")

    monkeypatch.setattr(fetch_module, "fetch_images", refuse)
    monkeypatch.setattr(fetch_module.text, "download", refuse)
    with pytest.raises(BadInput) as raised:
        fetch(profile("paper-cifar10"), data=tmp_path)
    assert [line.split()[1] for line in str(raised.value).splitlines()] == ["images", "text"]
    assert [call[0] for call in asked] == ["vision", "blip2"]
    assert "ok      captioner" in capsys.readouterr().out


def test_a_place_that_the_profile_names_is_not_filled(
    asked: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    there = profile("paper-cifar10")
    elsewhere = there.dataset.model_copy(update={"root": str(tmp_path / "absent")})
    with pytest.raises(BadInput, match=r"dataset\.root: .*absent does not exist"):
        fetch(there.model_copy(update={"dataset": elsewhere}), data=tmp_path)
    assert "images" not in [call[0] for call in asked]

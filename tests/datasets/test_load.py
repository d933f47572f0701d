"""Data sets by name: their options from their signatures, their place, memory or not."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from PIL import Image
from pydantic import Field

from vecaf_lib.datasets import KNOWN, load, load_lazily, option_schema
from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.errors import BadInput
from vecaf_lib.options import checked, schema_of

DATA = Path(__file__).parents[2] / "data"
SIDE = 16


def own_folder(root: Path) -> Path:
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            (root / part / name).mkdir(parents=True)
            for index in range(4):
                level = (100 * number, 10 * index, 50 if part == "test" else 0)
                Image.new("RGB", (SIDE, SIDE), level).save(root / part / name / f"{index}.png")
    return root


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_data_set_follows_the_contract(name: str) -> None:
    source = import_module(f"vecaf_lib.datasets.{name}")
    parameters = inspect.signature(source.load).parameters
    assert next(iter(parameters)) == "split"
    assert "image_size" in parameters
    for option in option_schema(name).model_fields:
        assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"{option}:" in inspect.getdoc(source.load), "explain it under Args"
    if "validation_per_class" in parameters:
        assert parameters["holdout_seed"].default == 2401


def test_options_are_those_of_the_signature_and_no_others() -> None:
    assert set(option_schema("digits").model_fields) == set()
    assert set(option_schema("cifar10").model_fields) == {
        *("validation_per_class", "pool_per_class", "holdout_seed"),
    }
    with pytest.raises(BadInput, match=r"^dataset\.options\.flip is no option; known are: none"):
        load("digits", "test", image_size=8, data=DATA, options={"flip": True})


def test_wrong_names() -> None:
    with pytest.raises(BadInput, match="no data set called 'cifar-10'; did you mean 'cifar10'"):
        load("cifar-10", "test", image_size=8, data=DATA)
    with pytest.raises(BadInput, match="no data set called 'mnist'; known are: digits, cifar10"):
        option_schema("mnist")
    with pytest.raises(BadInput, match="no split called 'dev'; known are: train, validation, test"):
        load("cifar10", "dev", image_size=8, data=DATA)  # said before data are looked for


def test_images_are_kept_in_memory_up_to_the_limit(tmp_path: Path) -> None:
    root = str(own_folder(tmp_path / "own"))
    size = 8 * 3 * SIDE**2 / 2**30  # GiB

    def of(memory_gib: float) -> Any:
        return load(
            *("folder", "test"),
            **{"image_size": SIDE, "data": tmp_path, "root": root, "memory_gib": memory_gib},
        )

    kept, left = of(size), of(size * 0.99)
    assert isinstance(kept.images, torch.Tensor)
    assert isinstance(left.images, LazyImages)
    assert torch.equal(kept.images, left.images[:])
    assert kept.ids == left.ids
    assert torch.equal(kept.labels, left.labels)
    lazily = load_lazily("folder", "test", image_size=SIDE, data=tmp_path, root=root)
    assert isinstance(lazily.images, LazyImages)


def test_raw_data_are_found_by_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VECAF_FOLDER", str(own_folder(tmp_path / "own")))
    found = load("folder", "test", image_size=SIDE, data=tmp_path)
    assert found.ids[0] == "test/cat/0.png"
    monkeypatch.delenv("VECAF_FOLDER")
    with pytest.raises(BadInput, match=r"dataset\.root: folder is not at"):
        load("folder", "test", image_size=SIDE, data=tmp_path)


def test_corrupted_images_of_ones_own_folder(tmp_path: Path) -> None:
    root = str(own_folder(tmp_path / "own"))
    options = {
        "of": "folder",
        "of_options": {"validation_percent": 25.0},
        "corruption": "contrast",
        "severity": 5,
    }
    found = load(
        "corrupted", "validation", image_size=32, data=tmp_path, root=root, options=options
    )
    clean = load(
        *("folder", "validation"),
        **{"image_size": 32, "data": tmp_path, "root": root, "options": options["of_options"]},
    )
    assert found.ids == tuple(f"{name}+contrast-5" for name in clean.ids)
    assert torch.equal(found.labels, clean.labels)


def test_schema_of_a_function() -> None:
    def function(
        pool: object, *, strength: Annotated[float, Field(gt=0)] = 1.0, kind: str, depth: int = 2
    ) -> None:
        pass

    schema = schema_of(function, {"pool"}, "example options")
    assert schema.__name__ == "example options"
    assert checked(schema, {"kind": "a"}, "x") == {"strength": 1.0, "kind": "a", "depth": 2}
    for values, sentence in (
        ({}, r"^x\.kind is missing; it has no default\.$"),
        ({"kind": "a", "strength": 0}, r"^x\.strength: 0 is wrong: .*greater than 0"),
        ({"kind": "a", "strength": float("nan")}, r"^x\.strength: nan is wrong"),
        ({"kind": "a", "depth": 2.5}, r"^x\.depth: 2\.5 is wrong"),
        ({"kind": "a", "pool": 1}, r"^x\.pool is no option; known are: depth, kind, strength\.$"),
    ):
        with pytest.raises(BadInput, match=sentence):
            checked(schema, values, "x")

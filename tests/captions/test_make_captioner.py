"""Captioners are found by name, and their options by their signatures."""

import pytest
import torch
from pydantic import ValidationError

from vecaf_lib.captions import check_source, download, make, option_schema
from vecaf_lib.errors import BadInput

POOL = torch.arange(4 * 3 * 32 * 32).remainder(251).to(torch.uint8).view(4, 3, 32, 32)


def test_options_are_the_constructors_own() -> None:
    assert set(option_schema("attributes").model_fields) == {"subject"}
    assert set(option_schema("tags").model_fields) == {
        "model",
        "weights",
        "image_size",
        "top",
        "precision",
    }
    assert option_schema("blip2")().model_dump()["model"] == "Salesforce/blip2-opt-2.7b"
    assert "device" not in option_schema("blip2").model_fields
    assert option_schema("my/captions.csv").model_fields == {}
    assert option_schema("captions.jsonl").model_fields == {}


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("tags", {"top": 0}),
        ("tags", {"precision": "float16"}),
        ("tags", {"image_size": 8}),
        ("blip2", {"num_beams": 0}),
        ("blip2", {"repetition_penalty": 0}),
        ("blip2", {"when_empty": " "}),
        ("blip2", {"temperature": 1.0}),
        ("attributes", {"top": 3}),
        ("captions.csv", {"top": 3}),
    ],
)
def test_wrong_options(source: str, options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        option_schema(source)(**options)
    with pytest.raises(BadInput, match=f"captions.options.{next(iter(options))}"):
        make(source, pool_images=POOL, options=options)


def test_unknown_sources() -> None:
    with pytest.raises(BadInput, match=r"captions.source is 'blip'; .*did you mean 'blip2'\?"):
        option_schema("blip")
    with pytest.raises(BadInput, match=r"should be attributes, tags, blip2, or the path of a .csv"):
        check_source("captions.txt")
    with pytest.raises(BadInput, match=r"captions.source: c.csv is a file; read_captions reads it"):
        make("c.csv", pool_images=POOL)


def test_made_with_its_options() -> None:
    captioner = make("attributes", pool_images=POOL, options={"subject": "shape"})
    assert captioner.record()["subject"] == "shape"
    assert len(captioner(POOL)) == 4


def test_nothing_is_fetched_for_what_is_packaged() -> None:
    assert download("tags") is None
    assert download("attributes") is None
    assert download("captions.csv") is None

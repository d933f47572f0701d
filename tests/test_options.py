"""Options read off a signature; a fault names the setting, its value and what would be right."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.options import checked, one_of, schema_of, sentences


def function(
    pool: object, *, strength: Annotated[float, Field(gt=0)] = 1.0, kind: str, depth: int = 2
) -> None: ...


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    rate: float = 0.1
    form: Literal["literal", "scaled"] = "literal"


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    profile: Annotated[str, Field(pattern=r"^\w+$")] = "smoke"
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    parts: dict[str, Part | None] = Field(default_factory=dict)
    method: str = "ods"

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        return one_of(value, ["ods", "random"], "method of selection")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, r"^x\.kind is missing"),
        ({"kind": "a", "strength": 0}, r"^x\.strength is 0; it should be greater than 0\.$"),
        ({"kind": "a", "pool": 1}, r"^x\.pool is not a setting; known are: depth, kind, strength"),
        ({"kind": "a", "dept": 1}, r"^x\.dept is not a setting; did you mean 'depth'\?"),
    ],
    ids=["missing", "range", "unknown", "near"],
)
def test_wrong_options(values: dict[str, Any], sentence: str) -> None:
    schema = schema_of(function, {"pool"}, "options")
    assert checked(schema, {"kind": "a"}, "x") == {"strength": 1.0, "kind": "a", "depth": 2}
    with pytest.raises(BadInput, match=sentence):
        checked(schema, values, "x")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"sed": 1}, "sed is not a setting; did you mean 'seeds'? known are: method, parts,"),
        ({"seeds": 3}, "seeds is 3; it should be a list"),
        ({"seeds": [0, -1]}, "seeds[1] is -1; it should be greater than or equal to 0."),
        ({"parts": {"a": {"rat": 1}}}, "parts.a.rat is not a setting; did you mean 'rate'?"),
        ({"parts": {"a": {"form": "scald"}}}, "parts.a.form is 'scald'; did you mean 'scaled'?"),
        ({"method": "odss"}, "method: 'odss' is no method of selection; did you mean 'ods'?"),
        ({"profile": "../x"}, "profile is '../x'; it should be a name"),
        ({"method": ["x" * 99]}, f"method is ['{'x' * 58} ...; it should be text."),
    ],
    ids=["near", "kind", "item", "nested", "literal", "ours", "name", "long"],
)
def test_one_sentence_for_a_fault(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Whole.model_validate(content | {"other": 1})
    complaint, other = sorted(sentences(raised.value, Whole), key=lambda text: "other" in text)
    assert complaint.startswith(sentence)
    assert complaint.endswith(".")
    assert other.startswith("other is not a setting; known are: ")


def test_the_nearest_choice_comes_first_and_long_lists_are_cut() -> None:
    assert did_you_mean("ob", ["abc", "obj"]) == "did you mean 'obj'? known are: abc, obj"
    many = did_you_mean("n1999", (f"n{i}" for i in range(2000)))
    assert many.startswith("did you mean 'n1999'? known are: n0, n1,")
    assert many.endswith(", n29, ... (2,000 in all)")

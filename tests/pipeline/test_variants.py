"""Which embeddings the methods need: shared where they may be, apart where they must."""

from pathlib import Path
from typing import Any

from vecaf_lib.pipeline.variants import all_views, views

VISION = {"name": "a", "weights": "package"}
TEXT = {"name": "t", "weights": "package"}
DOMAINS = {"snowy": {"prompt": "It's a snowy day."}}
CEA = {"mode": "paper"}
OWN: dict[str, Any] = {"vision": VISION, "text": TEXT, "domains": DOMAINS}
FOLDER = Path("e")


def files(method: dict[str, Any]) -> tuple[str, str]:
    view = views(method, **OWN)
    return view.image_file(FOLDER).name, view.text_file(FOLDER).name


def test_methods_share_what_they_do_not_name() -> None:
    plain = files({"cea": CEA})
    assert files({"cea": None}) == plain
    assert files({"cea": CEA, "domain": None, "vision": None, "text": None}) == plain
    assert files({"cea": CEA, "caption_part": "whole"}) == plain
    assert files({"cea": None, "domain": "snowy"}) == plain  # no captions, no prompt


def test_each_change_is_a_file_of_its_own() -> None:
    image, text = files({"cea": CEA})
    assert files({"cea": CEA, "domain": "snowy"})[0] == image
    assert files({"cea": CEA, "vision": {"name": "b/c", "weights": "hub"}})[1] == text
    names = {
        text,
        files({"cea": CEA, "domain": "snowy"})[1],
        files({"cea": CEA, "class_names": True})[1],
        files({"cea": CEA, "caption_part": "nouns"})[1],
        files({"cea": CEA, "caption_part": "attributes"})[1],
        files({"cea": CEA, "text": {"name": "u"}})[1],
        files({"cea": CEA, "text": {"name": "t", "weights": "package", "max_tokens": 9}})[1],
    }
    assert len(names) == 7
    assert "/" not in files({"cea": CEA, "vision": {"name": "b/c", "weights": "hub"}})[0]


def test_the_profiles_own_come_first_even_if_no_method_uses_them() -> None:
    methods = {"m": {"cea": CEA, "vision": {"name": "b"}, "domain": "snowy"}}
    first, second = all_views(methods, ["m"], **OWN)
    assert (first.vision, first.text, first.prompt) == (VISION, TEXT, "")
    assert (second.vision, second.prompt) == ({"name": "b"}, "It's a snowy day.")
    assert all_views(methods, [], **OWN) == [first]

"""What is left out of captions, or appended: the class name, section 3.3's target domain."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Int64
from torch import Tensor

from vecaf_lib.errors import BadInput

Part = Literal["whole", "nouns", "attributes"]


def part_of(captions: Sequence[str], part: Part) -> list[str]:
    """What captions of the tag captioner say: all, only what is seen, or only how it looks.

    Raises:
        BadInput: a part is asked of a caption without a semicolon, which parts the two.
    """
    if part == "whole":
        return list(captions)
    if odd := next((caption for caption in captions if ";" not in caption), None):
        raise BadInput(
            f"caption_part: {part!r} needs captions of the captioner tags, in which a semicolon "
            f"parts nouns and attributes; {odd!r} has none."
        )
    pairs = [caption.rstrip(".").split(";", 1) for caption in captions]
    return [
        f"{nouns}." if part == "nouns" else f"A picture that is {attributes.strip()}."
        for nouns, attributes in pairs
    ]


def with_class_name(
    captions: Sequence[str], labels: Int64[Tensor, "n"], class_names: Sequence[str]
) -> list[str]:
    """Append "It shows the class <name>." to each caption; the labels thereby enter the captions.

    Raises:
        BadInput: there is not one label a caption, or a label has no class name.
    """
    if len(captions) != len(labels):
        raise BadInput(
            f"There are {len(captions)} captions but {len(labels)} labels; give one each."
        )
    for label in labels.tolist():
        if not 0 <= label < len(class_names):
            raise BadInput(f"Label {label} has no class name; there are {len(class_names)} names.")
    return [
        _append(caption, f"It shows the class {class_names[label]}.")
        for caption, label in zip(captions, labels.tolist(), strict=True)
    ]


def with_domain(captions: Sequence[str], sentence: str) -> list[str]:
    """Append the sentence that names the target domain, e.g. "It's a snowy day." (section 3.3).

    Raises:
        BadInput: the sentence is empty.
    """
    if not sentence.strip():
        raise BadInput(
            "The target domain's sentence is empty; write one such as \"It's a snowy day.\""
        )
    return [_append(caption, sentence.strip()) for caption in captions]


def _append(caption: str, sentence: str) -> str:
    caption = caption.strip()
    end = "" if caption.endswith((".", "!", "?")) else "."
    return f"{caption}{end} {sentence}"

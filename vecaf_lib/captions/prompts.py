"""Sentences that are appended to captions: the class name, and section 3.3's target domain."""

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor

from vecaf_lib.errors import BadInput


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

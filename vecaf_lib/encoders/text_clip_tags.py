"""open_clip's names of models: an architecture, and the tag of what it was trained on."""

import difflib
from typing import Any

from vecaf_lib.errors import BadInput

DEFAULT_TAG = "openai"


def clip_config(model: str) -> dict[str, Any]:
    """Read the configuration of ``architecture`` or ``architecture:tag`` (``ViT-L-14:openai``).

    The activation is the one that the tag was trained with. OpenAI's is QuickGELU, which the
    architecture ``ViT-L-14`` of open_clip 3 has not: it would load these weights with another
    activation and only warn.

    Raises:
        BadInput: unknown architecture or tag.
    """
    import open_clip  # here, because it takes seconds and few need it

    architecture, _, tag = model.partition(":")
    config = open_clip.get_model_config(architecture) if architecture in known() else None
    if config is None:
        near = difflib.get_close_matches(architecture, known(), n=3)
        raise BadInput(
            f"text.model: open_clip has no architecture {architecture!r}; near it are "
            f"{', '.join(near) or 'none'}."
        )
    if tag:
        config["quick_gelu"] = _tag_config(architecture, tag).get("quick_gelu", False)
    return config


def clip_on_hub(model: str) -> tuple[str, str]:
    """Repository of ``architecture:tag`` on the hub, and its file where the name is not the usual.

    Raises:
        BadInput: unknown architecture or tag, or the hub does not have it.
    """
    architecture, _, tag = model.partition(":")
    clip_config(architecture)
    place = _tag_config(architecture, tag or DEFAULT_TAG).get("hf_hub", "")
    owner, _, rest = place.partition("/")
    repository, _, file = rest.partition("/")
    if not repository:
        raise BadInput(f"text.model: {model!r} is not on the hub; give the path of a local copy.")
    return f"{owner}/{repository}", file


def known() -> list[str]:
    """Names of open_clip's architectures."""
    import open_clip

    return list(open_clip.list_models())


def _tag_config(architecture: str, tag: str) -> dict[str, Any]:
    import open_clip

    found = open_clip.get_pretrained_cfg(architecture, tag)
    if not found:
        tags = open_clip.pretrained.list_pretrained_tags_by_model(architecture)
        raise BadInput(
            f"text.model: open_clip has no {architecture!r} trained on {tag!r}; there are "
            f"{', '.join(tags) or 'none'}."
        )
    return dict(found)

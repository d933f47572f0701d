"""Which embeddings the methods of a profile need: each vision model, each text with each prompt.

Most methods share the profile's own. Those of Table 5 name another vision model or text encoder,
those of Table 3 a domain, whose prompt ends every caption (section 3.3).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecaf_lib.files import sha256_json


@dataclass(frozen=True)
class Views:
    """The two views of the pool that one method works on.

    Attributes:
        vision: section of the settings.
        text: section of the settings.
        prompt: ends every caption; empty for none.
        class_names: whether every caption is told its image's class.
        caption_part: how much of every caption is used, see ``captions.prompts.part_of``.
        needs_text: whether the method looks at captions at all.
    """

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    prompt: str
    class_names: bool
    caption_part: Any
    needs_text: bool

    def image_file(self, folder: Path) -> Path:
        """Where the image embeddings lie below the profile's folder of embeddings."""
        return folder / f"image-{_key(self.vision)}.npy"

    def text_file(self, folder: Path) -> Path:
        """Where the text embeddings lie."""
        part = "" if self.caption_part == "whole" else self.caption_part
        said = {"prompt": self.prompt, "class_names": self.class_names, "part": part}
        key = _key({**self.text, **{name: value for name, value in said.items() if value}})
        return folder / f"text-{key}.npy"


def views(
    method: Mapping[str, Any],
    *,
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    domains: Mapping[str, Any],
) -> Views:
    """What the method works on.

    Args:
        method: section of the settings.
        vision, text: the profile's own, for a method that names none.
        domains: section of the settings.
    """
    domain = method.get("domain")
    return Views(
        vision=method.get("vision") or vision,
        text=method.get("text") or text,
        prompt=domains[domain]["prompt"] if domain and method["cea"] else "",
        class_names=method.get("class_names", False),
        caption_part=method.get("caption_part", "whole"),
        needs_text=bool(method["cea"]),
    )


def all_views(
    methods: Mapping[str, Any],
    run_methods: Iterable[str],
    *,
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    domains: Mapping[str, Any],
) -> list[Views]:
    """The views of all methods that are run, the profile's own first."""
    own = Views(vision, text, prompt="", class_names=False, caption_part="whole", needs_text=True)
    others = [
        views(methods[name], vision=vision, text=text, domains=domains) for name in run_methods
    ]
    return [own, *others]


def _key(section: Mapping[str, Any]) -> str:
    name = str(section["name"]).replace("/", "_")
    return f"{name}-{sha256_json(dict(section))[:8]}"

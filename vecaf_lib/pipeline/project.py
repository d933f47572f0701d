"""The project that a notebook or command belongs to: its folder, active profile and settings."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import file_name, read_json, sha256_json

SETTINGS = "VECAF_SETTINGS"  # set where the pipeline runs a notebook: the folder of ...
SECTIONS = Path("data/generated/settings")  # ... the validated sections, a JSON file each
PARAMS = Path("params.yaml")


@dataclass
class Project:
    """The checkout around the working folder; paths in notebooks are relative to ``root``."""

    root: Path

    @classmethod
    def find(cls) -> "Project":
        """The project that the working folder lies in; BadInput if it lies in none."""
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / PARAMS).is_file() and (folder / "dvc.yaml").is_file():
                return cls(folder)
        raise BadInput(f"{here} lies in no project: no folder above it has {PARAMS} and dvc.yaml.")

    @classmethod
    def of_stage(cls) -> "Project":
        """The same, with the settings as the first stage wrote them, here and in kernels."""
        os.environ[SETTINGS] = str(SECTIONS)
        return cls.find()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All sections of params.yaml, validated (BadInput), with every default; JSON-able."""
        from vecaf_lib.pipeline import settings  # imports torch

        return settings.read(self.root / PARAMS).model_dump(mode="json")

    def section(self, name: str) -> Any:
        """One section of the settings, e.g. ``training``; in a stage only those it depends on."""
        folder = os.environ.get(SETTINGS)
        return read_json(self.root / folder / f"{name}.json") if folder else self.settings[name]

    @property
    def profile(self) -> str:
        """Name of the active profile."""
        return str(self.section("profile"))

    def path(self, text: str) -> Path:
        """A path below the root, ``{profile}`` filled in."""
        return self.root / self.fill(text)

    def fill(self, text: str) -> str:
        """The text, with the active profile's name for ``{profile}``."""
        return text.replace("{profile}", self.profile) if "{profile}" in text else text


@dataclass(frozen=True)
class Views:
    """The image and the text view of the pool; sections of the settings, and what it adds."""

    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    prompt: str = ""  # ends every caption
    class_names: bool = False  # every caption begins with its image's class
    caption_part: Any = "whole"  # see ``captions.part_of``
    needs_text: bool = True  # whether captions are read at all

    @property
    def plain(self) -> "Views":
        """The same without the prompt."""
        return replace(self, prompt="")

    def image_file(self, folder: Path | str) -> Path:
        """The image embeddings [n, d] in the profile's folder of embeddings."""
        return Path(folder, f"image-{_key(self.vision)}.npy")

    def states_files(
        self, folder: Path | str, training: Mapping[str, Any], split: str
    ) -> list[Path]:
        """The frozen trunk's states [n, ...] of a split; a second file of the mirrored images.

        None where nothing is frozen, no second one where training mirrors none.
        """
        if training["trainable"] == "all":
            return []
        key = _key({**self.vision, **{name: training[name] for name in ("trainable", "blocks")}})
        ends = ["", "-mirrored"] if training["flip"] and split == "train" else [""]
        return [Path(folder, f"states-{key}-{split}{end}.npy") for end in ends]

    def text_file(self, folder: Path | str) -> Path:
        """The text embeddings [n, d_text]."""
        own = {"prompt": self.prompt, "class_names": self.class_names, "part": self.caption_part}
        own = {name: value for name, value in own.items() if value not in ("", False, "whole")}
        return Path(folder, f"text-{_key({**self.text, **own})}.npy")


def views(settings: Mapping[str, Any], method: str | None = None) -> Views:
    """The views of a method, or the profile's own, from the sections that say so."""
    if method is None:
        return Views(settings["vision"], settings["text"])
    own = settings["methods"][method]
    needs_text = bool(own["cea"])
    return Views(
        vision=own["vision"] or settings["vision"],
        text=own["text"] or settings["text"],
        prompt=settings["domains"][own["domain"]]["prompt"] if needs_text and own["domain"] else "",
        class_names=own["class_names"],
        caption_part=own["caption_part"],
        needs_text=needs_text,
    )


def _key(section: Mapping[str, Any]) -> str:
    return f"{file_name(section['name'])}-{sha256_json(dict(section))[:8]}"

"""Captions: measured from pixels, written by a model, or read from a file."""

import csv
import io
import json
import re
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

import torch
from jaxtyping import Int64, UInt8
from pydantic import BaseModel
from torch import Tensor

import vecaf_lib.models  # noqa: F401 (first: it makes torchvision importable)
from vecaf_lib.data.images import Images, ImageSet, ahead
from vecaf_lib.data.place import nfc
from vecaf_lib.devices import rank_and_size, state
from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.files import Parts, atomic_write, sha256_json
from vecaf_lib.options import checked, schema_of

Part = Literal["whole", "nouns", "attributes"]
# name -> class, in the module of that name; imported when needed
CAPTIONERS = {"attributes": "AttributeCaptioner", "tags": "TagCaptioner", "blip2": "Blip2Captioner"}
FORM = 'it must be a CSV with the columns id,caption or JSON lines {"id": ..., "caption": ...}'
LISTED = 300  # characters of ids in a sentence, at most


class Captioner(ABC):
    """Writes one sentence about each image; made with pool_images, device and its options."""

    record: dict[str, Any]  # what decides the captions, for JSON: captioner, model, prompt, ...
    when_empty = "a picture"  # the caption of an image for which it has no words

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One sentence an image, [b]; an empty one where the model had nothing to say."""

    @staticmethod
    def locate(options: Mapping[str, Any], *, fetch: bool) -> Path | None:
        """Where its model lies, fetched from the hub if it may be; BadInput if it is absent."""
        return None


def is_file(source: str) -> bool:
    """Whether the source is a file of captions, by its ending."""
    return source.endswith((".csv", ".jsonl"))


def option_schema(source: str) -> type[BaseModel]:
    """Pydantic model of a source's options, none for a file; BadInput for an unknown source."""
    if is_file(source):
        return schema_of(lambda: None, (), "file options")
    if source not in CAPTIONERS:
        hint = did_you_mean(source, CAPTIONERS)
        raise BadInput(f"captions.source: {source!r} is no captioner, .csv or .jsonl file; {hint}.")
    return schema_of(_captioner(source), {"pool_images", "device"}, f"{source} options")


def make(
    source: str, *, pool_images: Images, options: Mapping[str, Any], device: str | torch.device
) -> Captioner:
    """Build the captioner ``source`` for a pool; BadInput for wrong options or an absent model."""
    values = checked(option_schema(source), options, "captions.options")
    return _captioner(source)(pool_images=pool_images, device=device, **values)


def locate(source: str, options: Mapping[str, Any], fetch: bool = False) -> Path | None:
    """Where the model of the captioner ``source`` lies, see ``Captioner.locate``."""
    values = checked(option_schema(source), options, "captions.options")
    return _captioner(source).locate(values, fetch=fetch)


def _captioner(source: str) -> Any:
    return getattr(import_module(f"vecaf_lib.captions.{source}"), CAPTIONERS[source])


def caption_all(
    captioner: Captioner,
    pool: ImageSet,
    folder: Path,
    *,
    batch_size: int,
    identity: Mapping[str, Any],
    bar: Callable[[int], object],
) -> list[str]:
    """Caption every image of ``pool``, [n]; what was captioned before is not done again.

    Batches are the same for any number of processes, to which they are dealt in turn. Images
    without a caption get ``when_empty``, and a warning counts them.

    Args:
        folder: of ``files.Parts``, a batch each, which stay there for the next call. Those of
            another captioner, image size or ``identity`` are removed.
        identity: JSON-able; what else identifies the images, such as their digests.
        bar: called with a number of images whenever so many of the pool are captioned.
    """
    rank, size = rank_and_size()
    shape = [int(edge) for edge in pool.images.shape[2:]]
    parts = Parts(folder, {"captions": captioner.record, "shape": shape, **identity})
    batches = [slice(start, start + batch_size) for start in range(0, len(pool), batch_size)]
    names = [sha256_json(pool.ids[batch]) for batch in batches]
    left = [at for at, name in enumerate(names) if name not in parts]
    state().wait_for_everyone()  # nobody writes before all have seen what there is
    bar(len(pool) - sum(len(pool.ids[batches[at]]) for at in left))
    own = left[rank::size]
    decoded = ahead(pool.images[batches[at]] for at in own)
    for turn, (at, images) in enumerate(zip(own, decoded, strict=True)):
        texts = captioner(images)
        parts.save(names[at], [text.strip() for _, text in zip(images, texts, strict=True)])
        bar(sum(len(pool.ids[batches[at]]) for at in left[turn * size : (turn + 1) * size]))
    state().wait_for_everyone()
    captions = [caption for name in names for caption in parts.load(name)]
    empty = [id_ for id_, caption in zip(pool.ids, captions, strict=True) if not caption]
    if empty and rank == 0:
        text = f"{len(empty)} images got no caption and the text {captioner.when_empty!r} instead"
        warnings.warn(f"{text}: {shorten(', '.join(empty), LISTED)}.", stacklevel=2)
    return [caption or captioner.when_empty for caption in captions]


def read_captions(path: Path, ids: Sequence[str], others: Iterable[str] = ()) -> list[str]:
    """Read the captions of the images ``ids``, in that order, [n].

    Ids are compared in Unicode's form NFC. The images ``others`` may have captions, too. BadInput
    unless the file is such a table in UTF-8, with one caption that is not empty for each of the
    ids, and none for an unknown one.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Excel writes a byte order mark
        rows: list[Any] = (
            [json.loads(line) for line in text.split("\n") if line.strip()]
            if path.suffix == ".jsonl"
            else list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        )
    except (OSError, ValueError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read ({error}); {FORM}.") from error
    if rows and isinstance(rows[0], dict) and "captions" in rows[0]:
        rows = rows[1:]  # past the record that ``write_captions`` writes
    for number, row in enumerate(rows, start=1):  # the key None holds what a CSV has too much
        values = (row.get("id"), row.get("caption")) if isinstance(row, dict) else (None,)
        if not all(isinstance(value, str) for value in values) or None in row:
            raise BadInput(f"{path} is wrong in row {number} ({row}); {FORM}.")
    rows = [(nfc(row["id"]), row["caption"]) for row in rows]
    captions, counts, pool = dict(rows), Counter(id_ for id_, _ in rows), [*map(nfc, ids)]
    known = {*pool, *map(nfc, others)}
    for problem, wrong in (
        ("several captions for", [id_ for id_, count in counts.items() if count > 1]),
        ("an empty caption for", [id_ for id_, text in captions.items() if not text.strip()]),
        ("a caption for unknown", [id_ for id_ in captions if id_ not in known]),
        ("no caption for", [id_ for id_ in pool if id_ not in captions]),
    ):
        if wrong:
            named = ", ".join(wrong[:3]) + ", ..." * (len(wrong) > 3)
            hint = f"; ids here are such as {pool[0]}" if "unknown" in problem and pool else ""
            raise BadInput(f"{path} has {problem} {len(wrong):,} images: {named}{hint}.")
    return [captions[id_] for id_ in pool]


def write_captions(
    path: Path, ids: Sequence[str], captions: Sequence[str], *, record: Mapping[str, Any]
) -> None:
    """Write one caption an image as JSON lines, after a first line {"captions": record}."""
    pairs = zip(ids, captions, strict=True)
    lines: list[Any] = [{"captions": record}, *({"id": i, "caption": text} for i, text in pairs)]
    text = "".join(f"{json.dumps(line, sort_keys=True, ensure_ascii=False)}\n" for line in lines)
    atomic_write(path, text.encode(errors="backslashreplace"))  # of file names that are not UTF-8


def part_of(captions: Sequence[str], part: Part) -> list[str]:
    """The captions of the captioner tags, or what is seen, or how it looks; BadInput for others."""
    if part == "whole":
        return list(captions)
    if odd := next((caption for caption in captions if ";" not in caption), None):
        needs = "captions of the captioner tags, which have a semicolon"
        raise BadInput(f"caption_part: {part!r} needs {needs}; {odd!r} has none.")
    pairs = [caption.rstrip(".").split(";", 1) for caption in captions]
    if part == "nouns":
        return [f"{nouns}." for nouns, _ in pairs]
    return [f"A picture that is {attributes.strip()}." for _, attributes in pairs]


def with_class_name(
    captions: Sequence[str], labels: Int64[Tensor, "n"], class_names: Sequence[str]
) -> list[str]:
    """Append "It shows the class <name>." to each caption: labels thereby enter the captions."""
    texts = [re.sub(r"(?<![.!?])$", ".", caption.strip()) for caption in captions]
    names = [class_names[label] for label in labels.tolist()]
    return [f"{text} It shows the class {name}." for text, name in zip(texts, names, strict=True)]

"""``vecaf select``: images of a folder, or rows of an array, that stand for all of them.

Images are embedded by an EfficientNet-Lite0 that is installed with the project; nothing is trained.
"""

import base64
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import PIL
from PIL import Image

from vecaf_lib import subset
from vecaf_lib.data.folder import SPLIT_NAMES, SUFFIXES, by_nfc
from vecaf_lib.data.images import FileImages, decode, in_threads
from vecaf_lib.data.place import files_below, nfc, visible
from vecaf_lib.errors import BadInput, reason
from vecaf_lib.files import atomic_write, sha256_json
from vecaf_lib.models.extract import extract
from vecaf_lib.models.vision import load_pvm
from vecaf_lib.options import one_of
from vecaf_lib.pipeline.progress import bar
from vecaf_lib.selection import load
from vecaf_lib.selection.pool import budget_of

VISION = {"name": "tf_efficientnet_lite0", "weights": "package"}
IMAGE_SIZE = 128  # px, of what it embeds
BATCH = 32
SHOWN = 1000  # images on the contact sheet, at most
THUMBNAIL = 160  # px
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # of the contact sheet
STYLE = """
:root { color-scheme: light dark; font: 15px/1.4 system-ui, sans-serif }
body { margin: 1rem auto; padding: 0 1rem; max-width: 90rem }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
figure { margin: 0 }
img { width: 100%; height: auto; display: block; border-radius: 4px }
h1, p, figcaption { overflow-wrap: anywhere }
figcaption { font-size: .85rem }
"""


@dataclass(frozen=True)
class Source:
    """What is chosen from, N images or rows."""

    names: list[str]  # of images their path below the folder; of rows their numbers
    paths: list[str]  # of images
    rows: Any = None  # N x d numbers
    classes: list[str] | None = None  # of images in folders of classes


def select(
    source: Path,
    *,
    budget: int | None = None,
    share: str | None = None,
    method: str | None = None,
    labelled: Path | None = None,
    losses: Path | None = None,
    output: Path = Path("selected"),
    seed: int = 0,
) -> None:
    """Write ``selected.csv`` and, of images, their embeddings and ``contact_sheet.html``.

    Args:
        source: a folder with images at any depth, of which those in its folder for training are
            taken where there is one for tests, too; or a file with an array N x d: .npy, .npz, or
            .csv with a header, whose first column may be names.
        budget: K, how many to choose.
        share: K as a percentage of N, such as ``2%``.
        method: one of ``subset.methods()``; None is maxherding, with ``losses`` ods.
        labelled: names of what is labelled already: one a line, or a CSV with a column file.
        losses: a loss for each: a CSV with columns file and loss, or a .npy in the names' order.
        output: folder for what is written; embeddings are used again by the next call.
        seed: of methods that draw.

    Raises:
        BadInput: one sentence on what is missing or does not fit.
    """
    start = perf_counter()
    method = one_of(method or ("ods" if losses else "maxherding"), subset.methods(), "method")
    needs = load(method).NEEDS
    if losses and "losses" not in needs:
        users = [name for name in subset.methods() if "losses" in load(name).NEEDS]
        raise BadInput(f"--losses: {method} looks at none; give --method {' or '.join(users)}.")
    own = images_of(source) if source.is_dir() else rows_of(source)
    if needs & {"labels", "all_labels"} and not own.classes:
        raise BadInput(f"--method {method} looks at classes; {source} has no folder for each.")
    kept = [] if labelled is None else positions(labelled_in(labelled), own, labelled)
    free = len(own.names) - len(kept)
    if (budget is None) == (share is None):
        raise BadInput("Give --budget, how many to choose, or --share, such as 2%; one of them.")
    count = budget_of(percentage(share), len(own.names)) if share else budget or 0
    if not 1 <= count <= free:
        raise BadInput(f"--budget: {count:,} cannot be chosen; {source} has {free:,} to choose of.")
    weights = None if losses is None else losses_in(losses, own)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output: {output} cannot be made ({error.strerror}).") from error
    known = f" and {len(kept):,} labelled" if kept else ""
    print(f"{source}: {free:,} to choose of{known}.", flush=True)
    rows = subset.numbers(str(source), embedded(own, output) if own.paths else own.rows, 2)
    print(f"Choosing {count:,} by {method} ...", flush=True)
    chosen: Any = subset.select(
        rows,
        count,
        method=method,
        labelled=kept,
        losses=weights,
        labels=own.classes,
        generator=seed,
    )
    table = described(own.names, rows, chosen, kept)
    text = table.to_csv(index=False, lineterminator="\n")
    atomic_write(output / "selected.csv", text.encode(errors="surrogateescape"))
    print(f"The choice: {output / 'selected.csv'}")
    if own.paths:
        files = [own.paths[at] for at in chosen]
        words = f"{count:,} of {free:,} images of {source}, chosen by {method}"
        page = contact_sheet(words, table.head(count), files)
        atomic_write(output / "contact_sheet.html", page.encode(errors="replace"))
        print(f"To look at: {output / 'contact_sheet.html'}")
    print(f"{perf_counter() - start:.0f} seconds.")


def images_of(folder: Path) -> Source:
    """The images below a folder, in the order of their names; BadInput if there are none."""
    splits = {SPLIT_NAMES.get(e.name.lower()): e.name for e in visible(folder) if e.is_dir()}
    inside = f"{splits['train']}/" if {"train", "test"} <= splits.keys() else ""
    found = by_nfc(folder, files_below(folder))
    names = [n for n in found if n.startswith(inside) and n.lower().endswith(SUFFIXES)]
    if not names:
        raise BadInput(f"{folder / inside} has no images at any depth, such as .jpg or .png.")
    tops = [name.removeprefix(inside).rpartition("/")[0].partition("/")[0] for name in names]
    classes = tops if all(tops) and len({*tops}) > 1 else None
    return Source(names, [f"{folder}/{found[name]}" for name in names], classes=classes)


def rows_of(path: Path) -> Source:
    """An array in a file, with the names of its rows; BadInput if it is none."""
    names: Iterable[Any] | None = None
    with read_as(path, "a folder of images, nor a .npy, .npz or .csv file with one array"):
        if path.suffix == ".csv":
            rows: Any = pd.read_csv(path)
            if not pd.api.types.is_numeric_dtype(rows.iloc[:, 0]):
                names, rows = rows.iloc[:, 0], rows.iloc[:, 1:]
        else:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            if path.suffix == ".npz":
                (rows,) = rows.values()
    rows = subset.numbers(str(path), rows, 2)
    return Source([str(name) for name in (range(len(rows)) if names is None else names)], [], rows)


def percentage(share: str) -> float:
    """The number before the sign; BadInput unless there is one, above 0 and at most 100."""
    number = share.rstrip("% ")
    with suppress(ValueError):
        if number != share and 0 < float(number) <= 100:
            return float(number)
    raise BadInput(f"--share: {share!r} is no percentage between 0 and 100, such as 2%.")


@contextmanager
def read_as(path: Path, wanted: str) -> Iterator[None]:
    """Read a file inside this: what goes wrong is a BadInput, that it is not what is wanted."""
    try:
        yield
    except (OSError, ValueError, LookupError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path} is not {wanted} ({reason(error)}).") from error


def table_in(path: Path, *columns: str) -> pd.DataFrame:
    """Columns of a CSV file, as text, names in Unicode's form NFC; BadInput if it lacks one."""
    with read_as(path, f"a CSV with {' and '.join(columns)} in its header"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        return table[[*columns]].assign(file=table["file"].map(nfc))


def labelled_in(path: Path) -> list[str]:
    """The names in a file: one a line, or the column file of a CSV; BadInput if it has none."""
    if path.suffix == ".csv":
        return table_in(path, "file")["file"].to_list()
    with read_as(path, "a list of names, one a line"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [nfc(line.strip()) for line in lines if line.strip()]


def positions(names: Iterable[str], own: Source, path: Path) -> list[int]:
    """Where the names that the file ``path`` gives are; BadInput with three that are nowhere."""
    at = {name: position for position, name in enumerate(own.names)}
    wanted = dict.fromkeys(names)
    if absent := [name for name in wanted if name not in at]:
        like = f"names here are such as {own.names[0]}"
        raise BadInput(f"{path} names what is not there: {some(absent)}; {like}.")
    return [at[name] for name in wanted]


def losses_in(path: Path, own: Source) -> Any:
    """A number for each name; BadInput unless it has one for each."""
    if path.suffix == ".csv":
        table = table_in(path, "file", "loss").drop_duplicates("file").set_index("file")["loss"]
        positions(table.index, own, path)
        if absent := [name for name in own.names if name not in table.index]:
            raise BadInput(f"{path} has no loss of {some(absent)}.")
        values = pd.to_numeric(table[own.names], errors="coerce").to_numpy()
    else:
        with read_as(path, "a .csv with file and loss, nor a .npy with a loss for each"):
            values = np.load(path, allow_pickle=False)
    return subset.not_negative(str(path), values, len(own.names), 1)


def some(names: Sequence[str]) -> str:
    """The first three of some names, and how many there are."""
    return ", ".join(names[:3]) + (f", ... ({len(names):,} in all)" if len(names) > 3 else "")


def embedded(own: Source, folder: Path) -> Any:
    """The embeddings [N, 1280] of the images, in a file that is made if it is not there."""
    states = [os.stat(path) for path in own.paths]  # noqa: PTH116
    files = [(s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in states]
    what = [own.names, files, VISION, IMAGE_SIZE, PIL.__version__]
    path = folder / f"embeddings-{sha256_json(what)[:16]}.npy"
    if path.is_file():
        print(f"Their embeddings: {path}, made before.", flush=True)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    model, size = "an EfficientNet-Lite0", f"{IMAGE_SIZE} px"
    print(f"Embedding {len(own.paths):,} images by {model} at {size}, once ...", flush=True)
    precision = {"precision": "float32", "evaluation_precision": None}
    pvm = load_pvm(VISION, 1, {"image_size": IMAGE_SIZE}, precision, seed=0)
    with bar(len(own.paths), "images") as shown:
        images = FileImages(own.paths, IMAGE_SIZE)
        return extract(pvm, images, path, batch_size=BATCH, identity={}, bar=shown.update)


def described(names: Sequence[str], rows: Any, chosen: Any, kept: Sequence[int]) -> pd.DataFrame:
    """The chosen in their order, then the labelled; each with the size of its cluster.

    Every image belongs to the cluster of the nearest of them, by cosine.
    """
    centres = np.concatenate([chosen, np.array(kept, dtype=np.int64)])
    sizes = np.bincount(subset.represented(rows, centres).representative, minlength=len(names))
    order = pd.array([*range(1, len(chosen) + 1), *[None] * len(kept)], dtype="Int64")
    return pd.DataFrame(
        {
            "file": [names[at] for at in centres],
            "order": order,
            "cluster_size": sizes[centres],
            "labelled": ["no"] * len(chosen) + ["yes"] * len(kept),
        }
    )


def contact_sheet(words: str, table: pd.DataFrame, paths: Sequence[str]) -> str:
    """A page of the chosen images, which needs no other file; names are text, whatever is in them.

    Args:
        words: heading.
        table: the chosen, as of ``described``.
        paths: their files, in the same order.
    """

    def picture(path: str) -> str:
        data = io.BytesIO()
        pixels = decode(path, THUMBNAIL).permute(1, 2, 0)  # (h, w, 3)
        Image.fromarray(pixels.numpy()).save(data, "JPEG", quality=85)
        return base64.b64encode(data.getvalue()).decode()

    lines = zip(table["file"], table["cluster_size"], strict=True)
    figures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="" width="{THUMBNAIL}" '
        f'height="{THUMBNAIL}"><figcaption><b>{order}</b> {escape(name)}<br>stands for {size:,}'
        "</figcaption></figure>\n"
        for order, (data, (name, size)) in enumerate(
            zip(in_threads(picture, paths[:SHOWN]), lines, strict=False), start=1
        )
    )
    more = f" The first {SHOWN:,} are shown." if len(paths) > SHOWN else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(words)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(words)}</h1>
<p>In the order of choice; each stands for the images that are nearer to it than to any other that
is chosen or labelled.{more}</p>
<main>
{figures}</main>
</body>
</html>
"""

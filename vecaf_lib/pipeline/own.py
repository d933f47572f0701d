"""``vecaf select``: images of a folder, or rows of an array, that stand for all of them.

Images are embedded by an EfficientNet-Lite0 that is installed with the project; nothing is trained.
"""

import base64
import io
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
from PIL import Image

from vecaf_lib import subset
from vecaf_lib.data.folder import SPLIT_NAMES, SUFFIXES, by_nfc
from vecaf_lib.data.images import FileImages, decode, in_threads
from vecaf_lib.data.place import files_below, nfc, visible
from vecaf_lib.errors import BadInput, reason
from vecaf_lib.files import atomic_write
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
STYLE = """
:root { color-scheme: light dark; font: 15px system-ui, sans-serif }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)) }
figure { margin: 0 }
img { width: 100%; height: auto }
h1, figcaption { overflow-wrap: anywhere }
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
    kept = [] if labelled is None else given(labelled, own).index.to_list()
    if (budget is None) == (share is None):
        raise BadInput("Give --budget, how many to choose, or --share, such as 2%; one of them.")
    count = budget_of(percentage(share), len(own.names)) if share else budget
    count = subset.budget_from("--budget", count, len(own.names), len(kept))
    weights = None if losses is None else losses_in(losses, own)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"--output: {output} cannot be made ({error.strerror}).") from error
    rows = subset.numbers(str(source), embedded(own, output) if own.paths else own.rows, 2)
    words = f"{count:,} of {len(own.names) - len(kept):,} in {source}, by {method}"
    print(f"Choosing {words} ...", flush=True)
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
    return Source([*map(str, range(len(rows)) if names is None else names)], [], rows)


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


def given(path: Path, own: Source, *columns: str) -> pd.DataFrame:
    """What a file says, as text, with the position of each name as index, each once.

    It is a CSV with columns file and ``columns`` or, without these, also a list, a name a line.
    Names count in Unicode's form NFC. BadInput: it is no such file, or has names that are nowhere.
    """
    with read_as(path, f"a CSV with {' and '.join(('file', *columns))} in its header, nor a list"):
        if path.suffix == ".csv" or columns:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        else:
            lines = map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())
            table = pd.DataFrame({"file": [*filter(None, lines)]})
        table = table[["file", *columns]]
    at = table["file"].map(nfc).map({name: place for place, name in enumerate(own.names)})
    if len(absent := table["file"][at.isna()]):
        few = f"{', '.join(absent[:3])} ({len(absent):,} in all)"
        raise BadInput(f"{path} names what is not there: {few}; names here: {own.names[0]}, ...")
    return table.set_index(at.astype(int)).loc[lambda t: ~t.index.duplicated()]


def losses_in(path: Path, own: Source) -> Any:
    """A number for each name; BadInput unless it has one for each."""
    if path.suffix == ".csv":
        table = given(path, own, "loss").reindex(range(len(own.names)))
        values = pd.to_numeric(table["loss"], errors="coerce").to_numpy()
    else:
        with read_as(path, "a .csv with file and loss, nor a .npy with a loss for each"):
            values = np.load(path, allow_pickle=False)
    return subset.not_negative(str(path), values, len(own.names), 1)


def embedded(own: Source, folder: Path) -> Any:
    """The embeddings [N, 1280] of the images, in a file that is made unless it is there."""
    print(f"Embedding {len(own.paths):,} images by an EfficientNet-Lite0, once ...", flush=True)
    images = FileImages(own.paths, IMAGE_SIZE)
    what = {"names": own.names, "files": images.identity(), "model": VISION}
    precision = {"precision": "float32", "evaluation_precision": None}
    pvm = load_pvm(VISION, 1, {"image_size": IMAGE_SIZE}, precision, seed=0)
    path = folder / "embeddings.npy"
    with bar(len(images), "images") as shown:
        return extract(pvm, images, path, batch_size=BATCH, identity=what, bar=shown.update)


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
    """A page of the chosen images that needs no other file; names are text, whatever is in them.

    ``words``: its heading; ``table``: the chosen, as of ``described``; ``paths``: their files.
    """

    def picture(path: str) -> str:
        data = io.BytesIO()
        pixels = decode(path, THUMBNAIL).permute(1, 2, 0)  # (h, w, 3)
        Image.fromarray(pixels.numpy()).save(data, "JPEG", quality=85)
        return base64.b64encode(data.getvalue()).decode()

    more = f" The first {SHOWN:,} are shown." if len(paths) > SHOWN else ""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(words)}</title><style>{STYLE}</style></head>",
        f"<body><h1>{escape(words)}</h1>",
        "<p>In the order of choice; each stands for the images that are nearer to it than to any",
        f"other that is chosen or labelled.{more}</p><main>",
    ]
    rows = zip(in_threads(picture, paths[:SHOWN]), table.itertuples(), strict=False)
    parts += [
        f'<figure><img src="data:image/jpeg;base64,{data}" alt=""><figcaption><b>{row.order}</b> '
        f"{escape(str(row.file))}<br>stands for {row.cluster_size:,}</figcaption></figure>"
        for data, row in rows
    ]
    return "\n".join([*parts, "</main></body></html>\n"])

"""Caption a whole pool: batch by batch, resumable, by one process or several."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from vecaf_lib.captions.captioner import Captioner, Images
from vecaf_lib.captions.journal import Journal, Row
from vecaf_lib.datasets import ImageSet
from vecaf_lib.distribution import rank_and_size, state

LISTED = 20  # ids in a warning


def caption_all(
    captioner: Captioner,
    pool: ImageSet,
    path: Path,
    *,
    batch_size: int,
    identity: Mapping[str, Any] | None = None,
    bar: Callable[[int, str], Any] | None = None,
) -> list[str]:
    """Caption every image of ``pool`` into the JSON lines ``path``; what is there is not redone.

    The pool is cut into the same batches whatever has been done and however many processes there
    are (accelerate); batches are dealt to the processes in turn, and the main one appends. So the
    file ends up with the same bytes, in pool order, after any interruption. Captions made by
    another captioner, from another image size or with another ``identity`` are moved aside.

    Args:
        captioner: the captioner, the same in every process.
        pool: the images; their labels are not looked at.
        path: ends in ``.jsonl``; ``read_captions`` reads it.
        batch_size: images a call.
        identity: what else identifies the images, for JSON, such as their fingerprint.
        bar: makes a progress bar of so many steps, with a description.

    Returns:
        The captions in pool order, [n]. Images without one get ``captioner.when_empty``; they are
        marked in the file and counted in a warning.

    Raises:
        BadInput: the file is damaged, or the disk is full; what is stored stays valid.
    """
    rank, size = rank_and_size()
    height, width = pool.images.shape[2:]
    images = {"height": int(height), "width": int(width), **(identity or {})}
    header = {"captions": captioner.record(), "images": images}
    journal = Journal(path, header, pool.ids) if rank == 0 else None
    rows: dict[str, Row] = broadcast_object_list([journal.rows if journal else None])[0]
    rows = dict(rows)

    starts = [  # of the batches that are not done whole
        start
        for start in range(0, len(pool), batch_size)
        if not all(id_ in rows for id_ in pool.ids[start : start + batch_size])
    ]
    mine = starts[rank::size]
    parts = iter(_batches(pool.images, mine, batch_size))
    steps = bar(len(pool), "captions") if bar and journal else None
    if steps is not None:
        steps.update(len(rows))
    for turn in range(math.ceil(len(starts) / size)):
        made = []
        if turn < len(mine):
            ids = pool.ids[mine[turn] : mine[turn] + batch_size]
            made = [
                Row(id_, text.strip() or captioner.when_empty, not text.strip())
                for id_, text in zip(ids, captioner(next(parts)), strict=True)
            ]
        new = [row for row in gather_object(made) if row.id not in rows]
        if journal:
            journal.append(new)
        rows |= {row.id: row for row in new}
        if steps is not None:
            steps.update(len(new))
    if steps is not None:
        steps.close()
    if journal:
        journal.finish(pool.ids)
        _tell_of_empty(path, [id_ for id_ in pool.ids if rows[id_].empty], captioner.when_empty)
    state().wait_for_everyone()
    return [rows[id_].caption for id_ in pool.ids]


def _batches(images: Images, starts: list[int], batch_size: int) -> Iterable[Tensor]:
    if isinstance(images, Tensor):
        return (images[start : start + batch_size] for start in starts)
    # only the pool's last batch may be short, so that splitting what is left gives these batches
    left = [at for start in starts for at in range(start, min(start + batch_size, len(images)))]
    return images.take(left).split(batch_size)


def _tell_of_empty(path: Path, ids: list[str], caption: str) -> None:
    if ids:
        listed = ", ".join(ids[:LISTED]) + (", ..." if len(ids) > LISTED else "")
        warnings.warn(
            f"{len(ids)} images got no caption and the text {caption!r} instead (marked "
            f'"empty" in {path}): {listed}.',
            stacklevel=3,
        )

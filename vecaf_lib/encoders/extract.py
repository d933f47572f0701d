"""Embeddings of a whole pool into one file, by as many processes as there are, in any sittings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from vecaf_lib.datasets.lazy import LazyImages, ahead
from vecaf_lib.distribution import rank_and_size, state
from vecaf_lib.encoders.rows_file import RowsFile
from vecaf_lib.encoders.text import encode
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json
from vecaf_lib.precision import resolve

CAPTIONS_AT_ONCE = 4096  # encoded together, so that like lengths meet; what a kill costs at most


def extract(
    pvm: nn.Module,
    images: UInt8[Tensor, "n 3 h w"] | LazyImages,
    path: Path,
    *,
    batch_size: int,
    identity: Mapping[str, Any],
    bar: Callable[[int], object] | None = None,
) -> np.memmap:
    """Write the embeddings of ``images`` to ``path``, a .npy file, and open it for reading.

    Batch b holds the images b * batch_size and on, whoever computes it: process b modulo their
    number (``accelerate``'s). So the bytes are the same for any number of processes of one kind of
    device and, on a CPU, of equally many threads. A call after an interruption, kill -9 included,
    computes what is missing, and one for a finished file of the same identity computes nothing.
    Memory does not grow with the number of images. Several hosts need a file system in common.

    Args:
        pvm: a PVM, wrapped for several processes or not; it is moved to this process's device and
            left in evaluation mode.
        images: in memory, or decoded when asked for (then a few batches ahead, in threads).
        path: of the result; its folder is made.
        batch_size: images a forward pass.
        identity: JSON-able; what decides the embeddings (model, digest of its weights, data set,
            split, image size). Rows of another identity, shape, batch size or precision are
            not used.
        bar: called with a number of images whenever so many of this process's share are there.

    Returns:
        [n, d] float32, memory-mapped, read-only.

    Raises:
        BadInput: no images, no room on the disk, or an embedding that is not finite.
    """
    inner: Any = getattr(pvm, "module", pvm)
    model: PVM = inner
    model.eval().to(state().device)
    if not len(images):
        raise BadInput(f"{path}: there are no images to embed.")
    settings = {
        "identity": dict(identity),
        "images": list(images.shape),
        "width": model.width,
        "batch_size": batch_size,
        "precision": model.evaluation_precision,
    }
    return fill(
        RowsFile(path, len(images), model.width, batch_size, sha256_json(settings)),
        lambda file, batches: _embed(model, images, file, batches),
        bar=bar,
    )


def encode_into(
    captions: Sequence[str],
    path: Path,
    *,
    identity: Mapping[str, Any],
    bar: Callable[[int], object] | None = None,
    device: str | torch.device = "cpu",
    **encoder: Any,
) -> np.memmap:
    """Write the text embeddings of ``captions`` to ``path``, as ``extract`` does those of images.

    Args:
        captions: one an image.
        path: of the result, a .npy file.
        identity: JSON-able; what decides the embeddings beside the captions' encoder.
        bar: as for ``extract``.
        device: where the encoder computes.
        encoder: ``name`` and the other arguments of ``vecaf_lib.encoders.text.encode``.

    Returns:
        [n, d_text] float32, memory-mapped, read-only.

    Raises:
        BadInput: as ``encode``; no room on the disk.
    """
    width = encode(captions[:1], device=device, **encoder).shape[1]
    settings = {"identity": dict(identity), "encoder": encoder, "width": width}
    settings["precision"] = resolve(device, encoder.get("precision", "float32"))

    def parts(
        file: RowsFile, batches: Sequence[int]
    ) -> Iterator[tuple[int, Float32[np.ndarray, "b d"]]]:
        for batch in batches:
            rows = encode(captions[file.rows(batch)], device=device, **encoder)
            yield batch, rows.numpy()

    digest = sha256_json(settings)
    return fill(RowsFile(path, len(captions), width, CAPTIONS_AT_ONCE, digest), parts, bar=bar)


def fill(
    file: RowsFile,
    compute: Callable[[RowsFile, Sequence[int]], Iterator[tuple[int, Float32[np.ndarray, "b d"]]]],
    *,
    bar: Callable[[int], object] | None = None,
) -> np.memmap:
    """Compute the rows that are missing in ``file``, each process its share, and open it.

    Args:
        file: what is to be filled.
        compute: from the numbers of batches, each batch and its rows.
        bar: as for ``extract``.
    """
    if not file.finished():
        rank, processes = rank_and_size()
        together = state()
        if together.is_main_process:
            file.prepare()
        together.wait_for_everyone()
        done = file.done()
        together.wait_for_everyone()  # nobody writes before all have read
        mine = range(rank, file.batches, processes)
        tell = bar or (lambda count: None)
        tell(sum(_size(file.rows(batch)) for batch in mine if batch in done))
        with file.writer(rank) as writer:
            for batch, rows in compute(file, [b for b in mine if b not in done]):
                writer.write(batch, rows)
                tell(len(rows))
        together.wait_for_everyone()
        if together.is_main_process:
            file.finish()
        together.wait_for_everyone()
    return np.load(file.path, mmap_mode="r")


def _embed(
    model: PVM,
    images: UInt8[Tensor, "n 3 h w"] | LazyImages,
    file: RowsFile,
    batches: Sequence[int],
) -> Iterator[tuple[int, Float32[np.ndarray, "b d"]]]:
    """Embeddings of some batches; each is fetched from the device after the next has begun."""
    device = model.mean.device

    def parts() -> Iterator[tuple[int, Tensor]]:
        for batch in batches:
            part = images[file.rows(batch)]
            yield batch, part.pin_memory() if device.type == "cuda" else part

    begun: list[tuple[int, Tensor]] = []
    for batch, part in ahead(parts()):
        with torch.inference_mode():
            begun.append((batch, model.embed(part.to(device, non_blocking=True))))
        if len(begun) > 1:
            yield _fetch(*begun.pop(0), file)
    for batch, e in begun:
        yield _fetch(batch, e, file)


def _fetch(batch: int, e: Tensor, file: RowsFile) -> tuple[int, Float32[np.ndarray, "b d"]]:
    rows = e.cpu().numpy()
    if not np.isfinite(rows).all():
        at = file.rows(batch)
        raise BadInput(
            f"{file.path}: embeddings of images {at.start} to {at.stop - 1} are not finite; check "
            "vision.weights, or set compute.precision to float32."
        )
    return batch, rows


def _size(rows: slice) -> int:
    return rows.stop - rows.start

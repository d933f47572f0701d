"""Embeddings of a whole pool into one file, by as many processes as there are, in any sittings.

Each batch is a part (``files.Parts``) once computed; process 0 puts them together. The bytes are
the same for any number of processes of one kind of device and, on a CPU, of equally many threads.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vecaf_lib.data.images import Images, ahead
from vecaf_lib.devices import rank_and_size, resolve, state
from vecaf_lib.errors import BadInput, reason
from vecaf_lib.files import Parts, disk_room, read_json, sha256_json, write_json
from vecaf_lib.models.text import encode
from vecaf_lib.models.vision import PVM

CAPTIONS_AT_ONCE = 4096  # encoded together, so that like lengths meet


def extract(
    pvm: PVM,
    images: Images,
    path: Path,
    *,
    batch_size: int,
    identity: Mapping[str, Any],
    compute: Callable[[Tensor], Tensor] | None = None,
    bar: Callable[[int], object] = int,
) -> np.memmap:
    """Write the embeddings of ``images`` to ``path``, a .npy file, and open it for reading.

    A finished file of the same identity is not made again. Memory does not grow with n.

    Args:
        pvm: it is moved to this process's device and left in evaluation mode.
        path: on a disk that all processes share.
        identity: JSON-able; what decides the rows beside shape, batch size and precision.
        compute: from a batch of images to its rows, if not ``pvm.embed``.
        bar: called with a number of images whenever so many of this process's share are done.

    Returns:
        [n, d] (or [n, ...]) float32, memory-mapped, read-only; BadInput if one is not finite.
    """
    pvm.eval().to(state().device)
    compute = compute or pvm.embed
    settings = {
        "identity": dict(identity),
        "images": list(images.shape),
        "batch_size": batch_size,
        "precision": pvm.evaluation_precision,
    }

    @torch.inference_mode()
    def embed(part: Tensor) -> Tensor:
        return compute(part.to(pvm.mean.device)).cpu()

    return _fill(path, images, batch_size, settings, embed, bar)


def encode_into(
    captions: Sequence[str],
    path: Path,
    *,
    identity: Mapping[str, Any],
    bar: Callable[[int], object] = int,
    device: str | torch.device = "cpu",
    **encoder: Any,
) -> np.memmap:
    """``extract`` for text embeddings [n, d_text] of captions; ``encoder``: of ``text.encode``."""
    settings = {
        "identity": dict(identity),
        "encoder": encoder,
        "precision": resolve(device, encoder.get("precision", "float32")),
    }
    embed = partial(encode, device=device, **encoder)
    return _fill(path, captions, CAPTIONS_AT_ONCE, settings, embed, bar)


def _fill(
    path: Path,
    source: Any,
    batch_size: int,
    settings: Mapping[str, Any],
    embed: Callable[[Any], Tensor],  # [b, ...], on the CPU
    bar: Callable[[int], object],
) -> np.memmap:
    total = len(source)
    parts = Parts(path.with_name(f".{path.name}.parts"), settings)
    seal = path.with_suffix(".json")
    sealed = {"digest": sha256_json(settings), "rows": total}
    (rank, processes), everyone = rank_and_size(), state()
    finished = False
    with suppress(OSError, ValueError):  # absent or cut
        finished = read_json(seal) == sealed and len(np.load(path, mmap_mode="r")) == total
    everyone.wait_for_everyone()  # nobody finishes the file before all have looked
    if finished:
        return np.load(path, mmap_mode="r")
    batches = [slice(at, min(at + batch_size, total)) for at in range(0, total, batch_size)]
    own = batches[rank::processes]
    missing = [batch for batch in own if str(batch.start) not in parts]
    bar(sum(batch.stop - batch.start for batch in own if batch not in missing))
    for batch, part in zip(missing, ahead(source[batch] for batch in missing), strict=True):
        rows = embed(part).numpy()
        if not np.isfinite(rows).all():
            where = f"{path}: rows {batch.start} to {batch.stop - 1}"
            raise BadInput(f"{where} are not finite; check weights, captions and precision.")
        parts.save(str(batch.start), rows)
        bar(len(rows))
    everyone.wait_for_everyone()
    if everyone.is_main_process:
        seal.unlink(missing_ok=True)  # an old seal must not vouch for the new file
        whole = path.with_name(f".{path.name}.part")
        row = parts.load("0")[0]
        with disk_room(path, total * row.nbytes):
            file = np.lib.format.open_memmap(whole, "w+", np.float32, (total, *row.shape))
            for batch in batches:
                file[batch] = parts.load(str(batch.start))
            file.flush()
            whole.replace(path)
        write_json(seal, sealed)
        parts.clear()
    everyone.wait_for_everyone()
    return np.load(path, mmap_mode="r")


def embeddings(path: Path, *, size: int) -> Tensor:
    """The rows [size, ...] of a file, read from the disk as used; BadInput if it is not one."""
    try:
        rows = np.load(path, mmap_mode="c", allow_pickle=False)  # never written back
        if rows.ndim < 2 or len(rows) != size:
            raise ValueError(f"its shape is {rows.shape}, but the pool has {size} images")
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(
            f"{path} cannot be used ({reason(error)}); delete it and `dvc repro`."
        ) from error
    return torch.from_numpy(rows)

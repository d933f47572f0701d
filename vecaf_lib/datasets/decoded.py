"""Image files decoded once for all processes and stages: a memory-mapped copy of their pixels."""

import errno
import os
from pathlib import Path

import numpy as np
import PIL
import torch
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.lazy import DECODED_AT_ONCE
from vecaf_lib.files import sha256_json


def decoded(images: FileImages, folder: Path) -> UInt8[Tensor, "n 3 h w"] | FileImages:
    """The pixels of all files, from the copy in ``folder``, which is made if it is not there.

    The copy belongs to these very files: their paths, sizes and times of change, the size of the
    images and Pillow's version are in its name. It may be deleted at any time. Processes share
    its pages, so that several need no more memory than one.

    Args:
        images: in files.
        folder: where copies are kept.

    Returns:
        The pixels, or ``images`` unchanged where the disk has no room for a copy.
    """
    path = folder / f"{_name(images)}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part")
        try:
            _write(images, part)
            part.replace(path)  # whole or not at all; two processes write the same bytes
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return images
            raise
        finally:
            part.unlink(missing_ok=True)
    # copy on write: nothing in memory ever changes the file
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def _name(images: FileImages) -> str:
    states = [(path, Path(path).stat()) for path in images.paths]
    files = [(path, state.st_size, state.st_mtime_ns) for path, state in states]
    made = {"files": files, "as": images.preparation, "pillow": PIL.__version__}
    return sha256_json(made)[:32]


def _write(images: FileImages, path: Path) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": images.shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in images.split(DECODED_AT_ONCE):
            file.write(part.numpy().tobytes())

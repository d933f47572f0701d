"""Independent random streams, one per purpose, that never touch the global random state."""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for one purpose of one run.

    Selection, data order, augmentation and initialisation each get a stream of their own, so
    that changing one (say, drawing twice as many centroids) leaves the others as they were and
    methods that share a seed are truly paired.

    Args:
        seed: the run's seed, the only one in the settings.
        purpose: what the stream is for, e.g. ``("selection", loop)``.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    digest = hashlib.sha256(name.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

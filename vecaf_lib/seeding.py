"""Independent random streams, one per purpose, that never touch the global random state."""

import hashlib

import torch


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose of the run of ``seed``, e.g. ``("selection", loop)``.

    Selection, data order, augmentation and initialisation each get a stream of their own, so
    that changing one leaves the others as they were and methods that share a seed are paired.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)

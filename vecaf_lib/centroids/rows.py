"""The pool as a stream of unit rows: from memory or a memory-mapped file, whole or one shard."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vecaf_lib.centroids.processes import Alone
from vecaf_lib.errors import BadInput


class Rows:
    """N embeddings of d numbers, of which never more than a chunk is converted at a time."""

    def __init__(
        self,
        embeddings: Any,
        *,
        chunk: int,
        device: torch.device,
        processes: Alone,
    ) -> None:
        """Look at the matrix; no value is read yet.

        Args:
            embeddings: this process's rows, N_own x d: a torch tensor, a numpy array or a
                ``numpy.memmap``, float16, bfloat16, float32 or float64.
            chunk: rows converted to float32 at a time.
            device: where they are sent.
            processes: who has the other rows; they follow each other by rank.

        Raises:
            BadInput: not a matrix of floats, or an empty one.
        """
        shape = tuple(getattr(embeddings, "shape", ()))
        floats = (
            embeddings.is_floating_point()
            if isinstance(embeddings, Tensor)
            else getattr(getattr(embeddings, "dtype", None), "kind", "") == "f"
        )
        if len(shape) != 2 or not floats or not shape[0] or not shape[1]:
            raise BadInput(
                "embeddings: must be a matrix of floating-point numbers, one row a sample, as a "
                f"numpy array or torch tensor; got {type(embeddings).__name__} of shape {shape}."
            )
        self.embeddings, self.chunk, self.device, self.processes = (
            embeddings,
            chunk,
            device,
            processes,
        )
        self.own, self.d = shape
        sizes = processes.lists(torch.tensor([self.own], device=device))
        self.first = int(sum(int(n) for n in sizes[: processes.rank]))
        self.total = int(sum(int(n) for n in sizes))

    def take(self, index: slice | Int64[Tensor, " m"]) -> Float[Tensor, "m d"]:
        """Own rows as unit vectors, float32.

        Raises:
            BadInput: NaN, infinity or a row of zeros among them.
        """
        if isinstance(self.embeddings, Tensor):
            rows = self.embeddings[index]
        else:
            rows = torch.from_numpy(
                np.array(self.embeddings[index if isinstance(index, slice) else index.numpy()])
            )
        rows = rows.to(self.device, torch.float32)
        lengths = rows.norm(dim=1)  # (m,)
        wrong = ~torch.isfinite(lengths) | (lengths == 0)
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            row = self.first + (index.start + at if isinstance(index, slice) else int(index[at]))
            raise BadInput(
                f"embeddings: row {row} has NaN or infinite values or is all zeros; every row "
                "needs a direction."
            )
        return rows / lengths.unsqueeze(1)

    def chunks(self) -> Iterator[slice]:
        """Slices that cover the own rows, in order."""
        for start in range(0, self.own, self.chunk):
            yield slice(start, min(start + self.chunk, self.own))

    def parts(self, index: Int64[Tensor, " m"]) -> Iterator[Int64[Tensor, " c"]]:
        """Own indices, a chunk at a time."""
        yield from index.split(self.chunk)

    def everyones(self, index: Int64[Tensor, " k"]) -> Float[Tensor, "k d"]:
        """Unit rows by their number in the whole pool; the same in every process."""
        found = torch.zeros(len(index), self.d, device=self.device)
        mine = (index >= self.first) & (index < self.first + self.own)
        where = mine.nonzero().squeeze(1)
        for part in where.split(self.chunk):
            found[part.to(self.device)] = self.take(index[part] - self.first)
        return self.processes.sum(found)

    def start(self, budget: int, generator: torch.Generator) -> Float[Tensor, "k d"]:
        """K distinct samples of the pool as first centroids (ActiveFT's initialisation)."""
        return self.everyones(torch.randperm(self.total, generator=generator)[:budget])

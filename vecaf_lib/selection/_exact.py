"""From K centroids to exactly K distinct samples."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor


def nearest_unused(e: Float[Tensor, "n d"], theta: Float[Tensor, "k d"]) -> Int64[Tensor, " k"]:
    """Each centroid, in order, takes its nearest sample that no earlier one has taken.

    "Each selecting the nearest data point" (section 3.1) leaves open what happens when two
    centroids share one; here the later takes its next nearest. Ties go to the lower index.
    """
    unused = np.ones(len(e), dtype=bool)
    chosen = []
    for rows in theta.split(256):
        for cosines in (rows @ e.T).numpy():  # (n,)
            index = int(np.where(unused, cosines, -np.inf).argmax())  # the first of equals
            unused[index] = False
            chosen.append(index)
    return torch.tensor(chosen)

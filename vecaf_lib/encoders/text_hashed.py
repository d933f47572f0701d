"""The control encoder: words as random vectors, so that a table can show whether meaning matters.

Every word is hashed to one of 2^20 buckets (scikit-learn's HashingVectorizer), every bucket has a
Gaussian vector of its own, and a caption is the sum of its words' vectors at unit length: a random
projection of its bag of words. Captions of the same words are equal, whatever the order; two
different words are nearly orthogonal, whatever they mean.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

from vecaf_lib.errors import BadInput

BUCKETS = 2**20  # of 10,000 words, 48 pairs are expected to share a bucket
WORD = r"(?u)\b\w+\b"  # of one letter as well, and digits


def hashed(captions: Sequence[str], *, width: int, seed: int) -> Float[Tensor, "n {width}"]:
    """Embed captions as random projections of their bags of words, float32, unit length.

    A bucket's vector depends on ``seed`` and the bucket alone, so that neither the other captions
    nor their order change an embedding.

    Raises:
        BadInput: a caption without a word, or a width below 1.
    """
    if width < 1:
        raise BadInput(f"text.width: {width} is no width; give 1 or more.")
    vectorizer = HashingVectorizer(
        n_features=BUCKETS, token_pattern=WORD, norm=None, alternate_sign=False
    )
    counts = vectorizer.transform(captions).tocsr()  # (n, buckets), sparse
    empty = np.flatnonzero(np.diff(counts.indptr) == 0)
    if len(empty):
        raise BadInput(f"captions: {len(empty)} have no word, the first at row {empty[0]}.")
    used, columns = np.unique(counts.indices, return_inverse=True)
    vectors = np.stack(
        [np.random.default_rng([seed, int(bucket)]).standard_normal(width) for bucket in used]
    )  # (words, width)
    # One sum a caption, over its own words in the order of their buckets: a product of matrices
    # would sum in an order that depends on the rest.
    t = torch.empty(len(captions), width)
    for row, (start, stop) in enumerate(pairwise(counts.indptr)):
        bag = counts.data[start:stop] @ vectors[columns[start:stop]]  # (width,)
        t[row] = torch.from_numpy(bag / np.linalg.norm(bag))
    return t

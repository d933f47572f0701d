"""K samples that stand for a pool, chosen by K centroids: k-means, ODS and ActiveFT, streamed.

Nothing of size N x K is ever held: the pool streams in blocks of rows past blocks of centroids.
The exact modes of `vecaf_lib.selection.ods` and `activeft` are the oracle for the same objectives.
"""

from vecaf_lib.large_pool.engine import select

__all__ = ["select"]

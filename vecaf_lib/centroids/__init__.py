"""K samples that stand for a pool, found by K centroids: the engine of ODS and ActiveFT, at scale.

    from vecaf_lib.centroids import select

    chosen = select(embeddings, 1000)  # indices of 1,000 rows of a numpy or torch matrix

Nothing of size N x K is ever held: the pool streams in blocks of rows past blocks of centroids.
`vecaf_lib.selection.ods` and `activeft` in their mode ``exact`` are the oracle, this is the same
objective by faster means; `benchmarks/selection_engine.py` measures both.
"""

from vecaf_lib.centroids.api import select
from vecaf_lib.centroids.estimator import CentroidSelector

__all__ = ["CentroidSelector", "select"]

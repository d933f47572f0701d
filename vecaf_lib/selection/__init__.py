"""Data selection: one file a method, one signature for all.

``select(pool, budget, *, generator, record=None, **options) -> LongTensor[budget]``: K distinct
samples of a ``pool`` that holds the fields in the method's ``NEEDS``; ``record`` receives
diagnostics. ``COLD_START = True``: the first set is random, there is nothing to go on before a
model was finetuned. ``LOSS_PREDICTOR`` makes the loss predictor to train, of PVM and generator.
"""

from vecaf_lib.selection.pool import Pool, load, names, option_schema

__all__ = ["Pool", "load", "names", "option_schema"]

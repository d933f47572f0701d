"""Data selection: one file a method, one signature for all.

``select(pool, budget, *, generator, record=None, **options) -> LongTensor[budget]``, and ``NEEDS``,
what of the pool it is given (see ``Pool``). A file whose name starts with an underscore holds what
methods share; every other file is a method, and adding one adds the method: nothing is registered.

A method that has nothing to go on before a model was finetuned says ``COLD_START = True``: its
first set is random, and single-run means that the set of the second loop serves all later ones. A
method that trains a loss predictor beside the model has it as ``COMPANION``, a function of the PVM
and a generator.
"""

from vecaf_lib.selection._pool import Pool
from vecaf_lib.selection._registry import load, names, option_schema

__all__ = ["Pool", "load", "names", "option_schema"]

"""Data selection: one file a method, one signature for all.

``select(pool, budget, *, generator, record=None, **options) -> LongTensor[budget]``. A file whose
name starts with an underscore holds what methods share; every other file is a method, and adding
one adds the method: nothing is registered by hand.
"""

from vecaf_lib.selection._pool import Pool
from vecaf_lib.selection._registry import load, names, option_schema

__all__ = ["Pool", "load", "names", "option_schema"]

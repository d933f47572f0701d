"""VeCAF, reproduced: vision-language collaborative active finetuning (ACM MM 2024)."""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Subset", "SubsetQuery", "SubsetSelector", "select"]


def __getattr__(name: str) -> Any:
    """Selection from any embeddings, imported when first asked for: the library needs no torch."""
    if name in __all__:
        return getattr(importlib.import_module("vecaf_lib.subset"), name)
    raise AttributeError(f"module 'vecaf_lib' has no attribute {name!r}")

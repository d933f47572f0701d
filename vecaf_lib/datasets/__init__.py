"""Labelled images from named sources."""

from vecaf_lib.datasets._identify import identify
from vecaf_lib.datasets._load import KNOWN, load, load_lazily, option_schema
from vecaf_lib.datasets._place import fingerprint, raw_data
from vecaf_lib.datasets.images import ImageSet

__all__ = [
    "KNOWN",
    "ImageSet",
    "fingerprint",
    "identify",
    "load",
    "load_lazily",
    "option_schema",
    "raw_data",
]

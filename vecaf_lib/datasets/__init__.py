"""Labelled images from named sources."""

from vecaf_lib.datasets._load import KNOWN, load
from vecaf_lib.datasets.images import ImageSet

__all__ = ["KNOWN", "ImageSet", "load"]

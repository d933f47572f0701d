"""Captions: measured from pixels, prompted, or read from a file."""

from vecaf_lib.captions.attributes import Thresholds, describe, fit
from vecaf_lib.captions.measures import measure
from vecaf_lib.captions.prompts import with_class_name, with_domain
from vecaf_lib.captions.store import read_captions, write_captions

__all__ = [
    "Thresholds",
    "describe",
    "fit",
    "measure",
    "read_captions",
    "with_class_name",
    "with_domain",
    "write_captions",
]

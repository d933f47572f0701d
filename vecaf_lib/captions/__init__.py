"""Captions: measured from pixels, written by a model, prompted, or read from a file."""

from vecaf_lib import encoders  # noqa: F401 (first: it makes torchvision importable)
from vecaf_lib.captions.attributes import describe, fit
from vecaf_lib.captions.captioner import Captioner
from vecaf_lib.captions.make import (
    CAPTIONERS,
    available,
    check_source,
    download,
    is_file,
    make,
    option_schema,
)
from vecaf_lib.captions.measures import measure
from vecaf_lib.captions.prompts import part_of, with_class_name, with_domain
from vecaf_lib.captions.run import caption_all
from vecaf_lib.captions.store import read_captions, write_captions
from vecaf_lib.captions.words import Thresholds

__all__ = [
    "CAPTIONERS",
    "Captioner",
    "Thresholds",
    "available",
    "caption_all",
    "check_source",
    "describe",
    "download",
    "fit",
    "is_file",
    "make",
    "measure",
    "option_schema",
    "part_of",
    "read_captions",
    "with_class_name",
    "with_domain",
    "write_captions",
]

"""Captions: measured from pixels, written by a model, or read from a file."""

import vecaf_lib.models  # noqa: F401 (first: it makes torchvision importable)
from vecaf_lib.captions.captioning import (
    CAPTIONERS,
    Part,
    available,
    caption_all,
    download,
    is_file,
    make,
    option_schema,
    part_of,
    read_captions,
    with_class_name,
    write_captions,
)

__all__ = ["CAPTIONERS", "Part", "available", "caption_all", "download", "is_file", "make"]
__all__ += ["option_schema", "part_of", "read_captions", "with_class_name", "write_captions"]

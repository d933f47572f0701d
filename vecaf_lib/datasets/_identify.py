"""What identifies the images of a data set, wherever they lie on a machine."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from vecaf_lib.datasets._place import fingerprint, raw_data


def identify(name: str, *, data: Path, root: str | None, options: Mapping[str, Any]) -> Any:
    """Checksums of a data set's raw data and index files; see ``fingerprint``.

    Args:
        name: of the data set; one that is made from another (``options["of"]``) is identified by
            that one's images.
        data: the project's data folder.
        root: its raw data, as for ``load``.
        options: its own.

    Raises:
        BadInput: the raw data are not there.
    """
    name = options.get("of", name)
    source = import_module(f"vecaf_lib.datasets.{name}").load
    has_files = "root" in inspect.signature(source).parameters
    place = raw_data(name, root, data) if has_files else None
    return fingerprint(name, place, data / name)

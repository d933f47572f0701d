"""Write what identifies a profile's inputs: ``python -m vecaf_lib.pipeline.inputs OUTPUT``.

The first stage of the pipeline, made at every `dvc repro`: images, a captions file and weights of
your own may lie anywhere, so DVC does not watch them. This looks at the images' names and sizes (at
the checksum of an archive or a file) and writes the same bytes for the same inputs, wherever they
lie; the later stages depend on those bytes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vecaf_lib import settings
from vecaf_lib.captions import is_file
from vecaf_lib.datasets import identify
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file, write_json
from vecaf_lib.pipeline import cli

PARAMS, DATA = Path("params.yaml"), Path("data")


def inputs(profile: settings.Settings, *, data: Path) -> dict[str, Any]:
    """``images`` (see ``vecaf_lib.datasets.identify``) and, where they are the user's own files,
    SHA-256 of ``captions``, ``vision`` weights and ``text`` weights, else None.

    Raises:
        BadInput: one of them is not there.
    """
    dataset, captions = profile.dataset, profile.captions
    return {
        "images": identify(dataset.name, data=data, root=dataset.root, options=dataset.options),
        "captions": _file("captions.source", captions.source) if is_file(captions.source) else None,
        "vision": _own_weights("vision.weights", profile.vision.weights),
        "text": _own_weights("text.weights", profile.text.weights),
    }


def _own_weights(where: str, weights: str) -> Any:
    if weights in ("package", "hub"):
        return None
    if not Path(weights).is_dir():
        return _file(where, weights)
    files = (path for path in sorted(Path(weights).rglob("*")) if path.is_file())
    return {path.relative_to(weights).as_posix(): sha256_file(path) for path in files}


def _file(where: str, name: str) -> str:
    if not Path(name).is_file():
        raise BadInput(f"{where}: {name} does not exist; give the path of a file.")
    return sha256_file(Path(name))


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.inputs")
    parser.add_argument("output", type=Path)
    output = parser.parse_args(arguments).output
    write_json(output, inputs(settings.read(PARAMS), data=DATA))


if __name__ == "__main__":
    cli.run(main)

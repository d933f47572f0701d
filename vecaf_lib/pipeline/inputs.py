"""Write what identifies a profile's inputs: ``python -m vecaf_lib.pipeline.inputs OUTPUT``.

The first stage of the pipeline, made at every `dvc repro`: images, a captions file and weights of
your own may lie anywhere, so DVC does not watch them. This looks at the images' names and sizes (at
the checksum of an archive or a file) and writes the same bytes for the same inputs, wherever they
lie; the later stages depend on those bytes.
"""

import argparse
from collections.abc import Iterable, Sequence
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
    """``images`` (see ``vecaf_lib.datasets.identify``), SHA-256 of ``captions`` where they are a
    file, and of each file of ``vision`` and ``text`` weights that a method is run with.

    Raises:
        BadInput: one of them is not there.
    """
    dataset, captions = profile.dataset, profile.captions
    methods = [profile.methods[name] for name in profile.run_methods]
    return {
        "images": identify(dataset.name, data=data, root=dataset.root, options=dataset.options),
        "captions": _file("captions.source", captions.source) if is_file(captions.source) else None,
        "vision": _own_weights("vision.weights", [profile.vision, *(m.vision for m in methods)]),
        "text": _own_weights("text.weights", [profile.text, *(m.text for m in methods)]),
    }


def _own_weights(where: str, sections: Iterable[Any]) -> dict[str, Any]:
    """Path -> digest, of those weights that are the user's own files."""
    named = {section.weights for section in sections if section is not None}
    return {w: _weights(where, w) for w in sorted(named) if w not in ("package", "hub")}


def _weights(where: str, weights: str) -> Any:
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

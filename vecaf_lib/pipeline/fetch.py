"""Fetch what a profile needs and verify it: ``python -m vecaf_lib.pipeline.fetch PROFILE``.

Images (with their published checksums) and weights from the Hugging Face hub. Nothing else in the
package uses the network. What is there already is not fetched again, and what fails does not keep
the rest from being fetched.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from vecaf_lib import captions, settings
from vecaf_lib.datasets import load_lazily
from vecaf_lib.datasets.fetch import fetch as fetch_images
from vecaf_lib.encoders import text, weights
from vecaf_lib.errors import BadInput
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.profile import profile_path


def fetch(profile: settings.Settings, *, data: Path) -> None:
    """Fetch a profile's images and weights, and say what was done.

    Raises:
        BadInput: one sentence for each thing that could not be fetched, after all were tried.
    """
    steps: list[tuple[str, Callable[[], None]]] = [
        ("images", lambda: _images(profile, data)),
        ("vision model", lambda: _vision(profile)),
        ("text encoder", lambda: _text(profile)),
        ("captioner", lambda: _captioner(profile)),
    ]
    problems = []
    for what, step in steps:
        try:
            step()
            print(f"ok      {what}")
        except BadInput as error:
            problems.append(f"MISSING {what:<13} {error}")
    if problems:
        raise BadInput("\n".join(problems))


def _images(profile: settings.Settings, data: Path) -> None:
    dataset = profile.dataset
    try:
        section = dataset.model_dump(exclude={"memory_gib"})
        load_lazily(split="train", data=data, **section)  # a local copy is used where it is
    except BadInput:
        if dataset.root:
            raise
        fetch_images(dataset.options.get("of", dataset.name), data)


def _vision(profile: settings.Settings) -> None:
    vision = profile.vision
    if vision.weights == "hub" and weights.cached_weights(vision.name) is None:
        weights.download(vision.name)


def _text(profile: settings.Settings) -> None:
    encoder = profile.text
    wanted = (encoder.name, encoder.weights, encoder.model, encoder.revision)
    if encoder.weights == "hub" and text.available(*wanted):
        text.download(encoder.name, encoder.model, encoder.revision)


def _captioner(profile: settings.Settings) -> None:
    source = profile.captions.source
    if not captions.is_file(source):
        captions.download(source, profile.captions.options)


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.fetch")
    parser.add_argument("name", metavar="PROFILE")
    path = profile_path(parser.parse_args(arguments).name, Path("profiles"))
    fetch(settings.read(path), data=Path("data"))


if __name__ == "__main__":
    cli.run(main)

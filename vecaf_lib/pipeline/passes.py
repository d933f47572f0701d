"""The passes over the pool that come before the runs: captions, and embeddings of both kinds.

Several processes share a pass when they are launched together (``vecaf_lib.pipeline.launch``); a
pass that was stopped goes on where it was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vecaf_lib.captions import (
    caption_all,
    is_file,
    make,
    read_captions,
    with_class_name,
    write_captions,
)
from vecaf_lib.datasets import load
from vecaf_lib.distribution import rank_and_size, use_device
from vecaf_lib.encoders.extract import encode_into, extract
from vecaf_lib.encoders.text import commit
from vecaf_lib.encoders.vision import PVM, load_backbone
from vecaf_lib.encoders.weights import weights_identity
from vecaf_lib.files import read_json, sha256_file
from vecaf_lib.pipeline import progress
from vecaf_lib.seeding import generator

EMBEDDED_AT_ONCE = 250  # images


def caption(
    *,
    dataset: Mapping[str, Any],
    captions: Mapping[str, Any],
    compute: Mapping[str, Any],
    data: str,
    inputs: str,
    store: str,
    output: str,
) -> None:
    """Write one sentence for each image of the pool.

    Args:
        dataset, captions, compute: sections of params.yaml.
        data: the project's data folder.
        inputs: what identifies the images; see ``vecaf_lib.pipeline.inputs``.
        store: JSON lines that the captioner appends to; kept between calls.
        output: JSON lines for the language encoder, class names added if asked for.
    """
    device = _prepare(compute)
    size = captions["image_size"] or dataset["image_size"]
    # decoded on the way: at a size of its own the captioner alone sees these pixels, and once
    pool = load(split="train", data=Path(data), **{**dataset, "image_size": size, "memory_gib": 0})
    identity = {"images": read_json(Path(inputs))["images"]}
    source = captions["source"]
    if is_file(source):
        sentences = read_captions(Path(source), pool.ids)
        written_by: dict[str, Any] = {"captioner": "file", "sha256": sha256_file(Path(source))}
        Path(store).touch()
    else:
        options = captions["options"]
        captioner = make(source, pool_images=pool.images, options=options, device=device)
        sentences = caption_all(
            captioner,
            pool,
            Path(store),
            batch_size=captions["batch_size"],
            identity=identity,
            bar=progress.bar,
        )
        written_by = captioner.record()
    if captions["include_class_name"]:
        sentences = with_class_name(sentences, pool.labels, pool.class_names)
        written_by = {**written_by, "include_class_name": True}
    if rank_and_size()[0] == 0:
        write_captions(Path(output), pool.ids, sentences, record=written_by)


def embed(
    *,
    dataset: Mapping[str, Any],
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    compute: Mapping[str, Any],
    data: str,
    inputs: str,
    captions: str,
    text_output: str,
    image_output: str,
) -> None:
    """Write the text embeddings t and the pretrained model's image embeddings e of the pool.

    Args:
        dataset, vision, text, compute: sections of params.yaml.
        data: the project's data folder.
        inputs: what identifies the images and the user's own weights.
        captions: JSON lines that ``caption`` wrote.
        text_output: .npy to write, [n, d_text].
        image_output: .npy to write, [n, d].
    """
    device = _prepare(compute)
    pool = load(split="train", data=Path(data), **dataset)
    known = read_json(Path(inputs))
    sentences = read_captions(Path(captions), pool.ids)
    with progress.bar(len(pool), "captions") as bar:
        where = {key: text[key] for key in ("name", "weights", "model", "revision")}
        identity = {
            "captions": sha256_file(Path(captions)),
            "own weights": known["text"],
            "commit": commit(**where),
        }
        encode_into(
            sentences, Path(text_output), identity=identity, bar=bar.update, device=device, **text
        )
    pvm = PVM(
        load_backbone(**vision, image_size=dataset["image_size"]),
        len(pool.class_names),
        generator=generator(0, "initialisation"),
        precision=compute["precision"],
    )
    identity = {
        "images": known["images"],
        "model": vision["name"],
        "weights": weights_identity(vision["name"], vision["weights"]),
        "options": dataset["options"],
    }
    with progress.bar(len(pool), "images") as bar:
        extract(
            pvm,
            pool.images,
            Path(image_output),
            batch_size=EMBEDDED_AT_ONCE,
            identity=identity,
            bar=bar.update,
        )


def _prepare(compute: Mapping[str, Any]) -> torch.device:
    """Device and threads: on one process as many as side by side runs would have."""
    torch.set_num_threads(compute["threads"] * compute["workers"])
    return use_device(compute["device"])

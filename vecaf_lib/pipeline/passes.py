"""The passes over the pool that come before the runs: captions, and embeddings of both kinds.

Several processes share a pass when they are launched together (``vecaf_lib.pipeline.launch``); a
pass that was stopped goes on where it was.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vecaf_lib.captions import (
    caption_all,
    is_file,
    make,
    part_of,
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
from vecaf_lib.pipeline.variants import all_views
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
        output: JSON lines for the language encoder.
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
    if rank_and_size()[0] == 0:
        write_captions(Path(output), pool.ids, sentences, record=written_by)


def embed(
    *,
    dataset: Mapping[str, Any],
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    methods: Mapping[str, Any],
    run_methods: Sequence[str],
    domains: Mapping[str, Any],
    compute: Mapping[str, Any],
    data: str,
    inputs: str,
    captions: str,
    output: str,
) -> None:
    """Write the text embeddings t and the pretrained models' image embeddings e of the pool.

    Of every text encoder, prompt and vision model that a method is run with; what was written
    before is kept.

    Args:
        dataset, vision, text, methods, run_methods, domains, compute: sections of params.yaml.
        data: the project's data folder.
        inputs: what identifies the images and the user's own weights.
        captions: JSON lines that ``caption`` wrote.
        output: folder of .npy files, [n, d_text] and [n, d]; ``vecaf_lib.pipeline.variants`` names
            them.
    """
    device = _prepare(compute)
    pool = load(split="train", data=Path(data), **dataset)
    known, folder = read_json(Path(inputs)), Path(output)
    sentences = read_captions(Path(captions), pool.ids)
    wanted = all_views(methods, run_methods, vision=vision, text=text, domains=domains)
    of_text = {view.text_file(folder): view for view in wanted if view.needs_text}
    of_images = {view.image_file(folder): view for view in wanted}
    for path, view in of_text.items():
        keys = ("name", "weights", "model", "revision")
        where = {key: view.text[key] for key in keys if key in view.text}
        identity = {
            "captions": sha256_file(Path(captions)),
            "own weights": known["text"].get(view.text.get("weights")),
            "commit": commit(**where),
        }
        shown = part_of(sentences, view.caption_part)
        if view.class_names:
            shown = with_class_name(shown, pool.labels, pool.class_names)
        prompted = [f"{sentence} {view.prompt}".strip() for sentence in shown]
        with progress.bar(len(pool), f"captions, {view.text['name']}") as bar:
            encode_into(
                prompted, path, identity=identity, bar=bar.update, device=device, **view.text
            )
    for path, view in of_images.items():
        pvm = PVM(
            load_backbone(**view.vision, image_size=dataset["image_size"]),
            len(pool.class_names),
            generator=generator(0, "initialisation"),
            precision=compute["precision"],
            evaluation_precision=compute["evaluation_precision"],
        )
        identity = {
            "images": known["images"],
            "model": view.vision["name"],
            "weights": weights_identity(view.vision["name"], view.vision["weights"]),
            "options": dataset["options"],
        }
        with progress.bar(len(pool), f"images, {view.vision['name']}") as bar:
            extract(
                pvm,
                pool.images,
                path,
                batch_size=EMBEDDED_AT_ONCE,
                identity=identity,
                bar=bar.update,
            )


def _prepare(compute: Mapping[str, Any]) -> torch.device:
    """Device and threads: on one process as many as side by side runs would have."""
    torch.set_num_threads(compute["threads"] * compute["workers"])
    return use_device(compute["device"])

"""The passes over the pool that come before the runs: captions, and embeddings of both kinds.

Several processes may share one (``launch``); a pass that was stopped goes on where it was. In
both, ``dataset`` and the like are sections of the settings, ``data`` is the project's data folder,
and ``inputs`` the file of the stage ``inputs``.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vecaf_lib import captions as captioning
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import SPLITS, all_ids, load
from vecaf_lib.devices import rank_and_size, use_device
from vecaf_lib.files import read_json, sha256_file, sha256_json
from vecaf_lib.models.extract import encode_into, extract
from vecaf_lib.models.text import commit
from vecaf_lib.models.trunk import StoredStates, freeze, states_of
from vecaf_lib.models.vision import PVM, load_pvm
from vecaf_lib.models.weights import weights_identity
from vecaf_lib.pipeline import progress
from vecaf_lib.pipeline.project import views

Section = Mapping[str, Any]


def caption(
    dataset: Section,
    captions: Section,
    compute: Section,
    *,
    data: str,
    inputs: str,
    store: str,
    output: str,
) -> None:
    """Write a sentence for each image to ``output``, JSON lines; ``store`` is the captioner's."""
    torch.set_num_threads(compute["threads"] * compute["workers"])  # as runs side by side have
    device = use_device(compute["device"])
    own = {"image_size": captions["image_size"] or dataset["image_size"], "memory_gib": 0}
    pool = load(split="train", data=Path(data), **{**dataset, **own})  # read once, so not kept
    source, options = captions["source"], captions["options"]
    Path(store).mkdir(parents=True, exist_ok=True)  # an output of the stage
    if captioning.is_file(source):
        known = all_ids(data=Path(data), **dataset)
        sentences = captioning.read_captions(Path(source), pool.ids, known)
        record = {"captioner": "file", "sha256": sha256_file(Path(source))}
    else:
        made_by = captioning.make(source, pool_images=pool.images, options=options, device=device)
        with progress.bar(len(pool), f"captions, {source}") as bar:
            sentences = captioning.caption_all(
                made_by,
                pool,
                Path(store),
                batch_size=captions["batch_size"],
                identity={"images": read_json(Path(inputs))["images"]},
                bar=bar.update,
            )
        record = made_by.record
    if rank_and_size()[0] == 0:
        captioning.write_captions(Path(output), pool.ids, sentences, record=record)


def embed(
    dataset: Section,
    compute: Section,
    *,
    data: str,
    inputs: str,
    captions: str,
    output: str,
    training: Section,
    tables: Section,
    **settings: Section,
) -> None:
    """Write the pool's embeddings t and e of every encoder, prompt and model that a method has.

    Where part of a model is frozen, also its states of all images. ``output``: folder of .npy
    files, [n, d_text], [n, d] and [n, ...], which ``views`` names.
    """
    torch.set_num_threads(compute["threads"] * compute["workers"])  # as runs side by side have
    device = use_device(compute["device"])
    pool = load(split="train", data=Path(data), **dataset)
    digests, folder = read_json(Path(inputs)), Path(output)
    sentences = captioning.read_captions(Path(captions), pool.ids)
    left_out = {name for table in tables.values() for name in table["optional"]}
    methods = [name for name in settings["methods"] if name not in left_out]
    all_views = [views(settings, method) for method in (None, *methods)]
    with_text = [v for view in all_views if view.needs_text for v in (view, view.plain)]
    of_text = {view.text_file(folder): view for view in with_text}
    of_images = {view.image_file(folder): view for view in all_views}
    for path, view in of_text.items():
        identity: dict[str, Any] = {
            "captions": sha256_file(Path(captions)),
            "own weights": digests["text"].get(view.text.get("weights")),
            "commit": commit(**view.text),
        }
        words = captioning.part_of(sentences, view.caption_part)
        if view.class_names:
            words = captioning.with_class_name(words, pool.labels, pool.class_names)
        words = [f"{sentence} {view.prompt}".strip() for sentence in words]
        with progress.bar(len(pool), f"captions, {view.text['name']}") as bar:
            encode_into(words, path, identity=identity, bar=bar.update, device=device, **view.text)
    for path, view in of_images.items():
        pvm = load_pvm(view.vision, len(pool.class_names), dataset, compute, seed=0)
        freeze(pvm, training["trainable"], training["blocks"])
        identity = {
            "images": digests["images"],
            "model": view.vision["name"],
            "weights": weights_identity(view.vision["name"], view.vision["weights"]),
            "options": dataset["options"],
        }
        if pvm.trunk is not None:
            identity["frozen"] = {name: training[name] for name in ("trainable", "blocks")}
            for split in SPLITS[:2] if dataset["blind"] else SPLITS:
                images = pool if split == "train" else load(split=split, data=Path(data), **dataset)
                _store_states(pvm, images, view.states_files(folder, training, split), identity)
            states = StoredStates(view.states_files(folder, training, "train"), len(pool))
            pool = replace(pool, states=states)
        with progress.bar(len(pool), f"images, {view.vision['name']}") as bar:
            extract(pvm, pool.inputs, path, batch_size=250, identity=identity, bar=bar.update)


def _store_states(pvm: PVM, data: ImageSet, files: list[Path], identity: Section) -> None:
    """Write the trunk's states of a split to the first file, of the mirrored images to a second."""
    for path, mirrored in zip(files, (False, True), strict=False):
        own = {**identity, "ids": sha256_json(data.ids), "mirrored": mirrored}
        options: Any = {"identity": own, "compute": states_of(pvm, mirrored=mirrored)}
        with progress.bar(len(data), path.stem) as bar:
            extract(pvm, data.images, path, batch_size=250, bar=bar.update, **options)

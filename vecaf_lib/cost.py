"""What the parts of a run cost: floating-point operations and seconds (Table 4).

What is counted and how is in ``vecaf_lib.counting``.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from vecaf_lib.captions import is_file, make, read_captions
from vecaf_lib.cea import Augmentation
from vecaf_lib.counting import Measured, count
from vecaf_lib.datasets import ImageSet, load
from vecaf_lib.distribution import use_device
from vecaf_lib.encoders.text import encode
from vecaf_lib.encoders.vision import PVM, load_backbone
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import look
from vecaf_lib.observation import observe, show_pool
from vecaf_lib.official import OfficialAugmentation
from vecaf_lib.seeding import generator
from vecaf_lib.selection import load as load_method
from vecaf_lib.selection._pool import Pool, budget_of
from vecaf_lib.training import Finetuner, Recipe

SAMPLE = 250  # images or captions that a cost by the piece is taken from, at most
STEPS = 2  # of finetuning, timed together
PASSES = frozenset({"embeddings", "losses", "predicted_losses"})  # needs that cost a pass


def measure_run(
    *,
    dataset: Mapping[str, Any],
    captions: Mapping[str, Any],
    vision: Mapping[str, Any],
    text: Mapping[str, Any],
    training: Mapping[str, Any],
    compute: Mapping[str, Any],
    method: Mapping[str, Any],
    ratio: float,
    loops: int,
    data: Path,
    text_embeddings: Path,
    image_embeddings: Path,
    captions_file: Path,
) -> dict[str, Any]:
    """Measure the parts of a multi-run of ``method``, each once, and say how often a run does them.

    Selection is the method's own on the real pool; images and captions are a sample of at most
    250, evenly spaced. A part that the run lacks has ``times`` 0.

    Args:
        dataset, captions, training, compute, method: sections of params.yaml.
        vision, text: the method's own where it names them, else the profile's.
        ratio: percent of the pool selected in a loop.
        loops: of the run.
        data: the project's data folder.
        text_embeddings: .npy file of the pool.
        image_embeddings: .npy file of the pool, from the pretrained model.
        captions_file: JSON lines of the pool.

    Returns:
        JSON-able: ``parts`` (part -> gflops, seconds, times), pool, budget, loops, steps,
        batch_size, image_size, threads, precision and device. ``gflops`` is null where nothing
        can be counted, ``seconds`` too where captions came as a file.
    """
    device = use_device(compute["device"])
    module = load_method(method["select"])
    with _threads(compute["threads"]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself tells them
        pool = load(split="train", data=data, **dataset)
        budget = budget_of(ratio, len(pool))
        pvm = PVM(
            load_backbone(**vision, image_size=dataset["image_size"]),
            len(pool.class_names),
            generator=generator(0, "initialisation"),
            precision=compute["precision"],
            evaluation_precision=compute["evaluation_precision"],
        )
        companion = getattr(module, "COMPANION", None)
        predictor = companion and companion(pvm, generator(0, "companion"))
        recipe = replace(Recipe(**training), steps=2 * STEPS, evaluate_every=2 * STEPS)
        tuner = Finetuner(pvm, recipe, loops=2, seed=0, predictor=predictor)

        known = _rows(image_embeddings, len(pool))
        shown = _shown(tuner, pool, module.NEEDS, known, budget)
        chosen = torch.empty(0, dtype=torch.int64)

        def select() -> None:
            nonlocal chosen
            stream = generator(0, "selection", 0)
            chosen = module.select(shown, budget, generator=stream, **method["options"])

        parts = {"selection": count(select)}
        sentences, lift = [], None
        if method["cea"]:
            parts["captioning"] = _captioning(dataset, captions, data, device)
            sentences = list(dict.fromkeys(read_captions(captions_file, pool.ids)))
            parts["text encoding"] = _encoding(sentences, text, device)
            t = _rows(text_embeddings, len(pool))
            parts["CEA"] = count(lambda: _augment(method["cea"], t, known, chosen))
            lift = _augment(method["cea"], t, known, chosen)
        images = _few(pool, SAMPLE)
        parts["embedding passes"] = count(lambda: look(tuner.pvm, images)).each(len(images))
        subset = pool.subset(chosen)

        def finetune() -> None:
            tuner.train_loss.clear()
            tuner.finetune(subset, subset, loop=0, lift=lift)  # too few steps for a validation

        parts["finetuning"] = count(finetune).each(STEPS)
    passes = bool(method["cea"]) or bool(module.NEEDS & PASSES)
    times = {
        "captioning": len(pool) if method["cea"] else 0,
        "text encoding": len(sentences),  # equal ones are encoded once
        "CEA": loops if method["cea"] else 0,
        "embedding passes": len(pool) * loops * passes,  # the first is the embeddings stage
        "selection": loops,
        "finetuning": training["steps"],
    }
    return {
        "parts": {name: _plain(parts.get(name), n) for name, n in times.items()},
        "pool": len(pool),
        "budget": budget,
        "loops": loops,
        "steps": training["steps"],
        "batch_size": training["batch_size"],
        "image_size": dataset["image_size"],
        "threads": compute["threads"],
        "precision": compute["precision"],
        "evaluation_precision": compute["evaluation_precision"],
        "device": device.type,
    }


def _plain(measured: Measured | None, times: int) -> dict[str, float | None]:
    told = measured or Measured(None, None)
    return {"gflops": told.gflops, "seconds": told.seconds, "times": times}


def _captioning(
    dataset: Mapping[str, Any], captions: Mapping[str, Any], data: Path, device: torch.device
) -> Measured:
    """Of one image; without a count where the captioner holds no torch module."""
    source = captions["source"]
    if is_file(source):
        return Measured(None, None)
    size = captions["image_size"] or dataset["image_size"]
    pool = load(split="train", data=data, **{**dataset, "image_size": size, "memory_gib": 0.0})
    options = captions["options"]
    captioner = make(source, pool_images=pool.images, options=options, device=device)
    images = _few(pool, captions["batch_size"])
    told = count(lambda: captioner(images)).each(len(images))
    counted = any(isinstance(part, nn.Module) for part in vars(captioner).values())
    return told if counted else Measured(None, told.seconds)


def _encoding(sentences: list[str], text: Mapping[str, Any], device: torch.device) -> Measured:
    """Of one caption."""
    few = sentences[:: -(-len(sentences) // SAMPLE)]
    return count(lambda: encode(few, device=device, **text)).each(len(few))


def _augment(
    cea: Mapping[str, Any],
    text: Float[Tensor, "n d_text"],
    e: Float[Tensor, "n d"],
    chosen: Int64[Tensor, " k"],
) -> Any:
    """Equations 8 and 9 for one loop, the bridge fitted anew."""
    options = {key: value for key, value in cea.items() if key != "mode"}
    augmentation: Augmentation | OfficialAugmentation
    if cea["mode"] == "official":
        bridge = {key: options[key] for key in ("bridge", "ridge")}
        augmentation = OfficialAugmentation(text, seed=0, **bridge)
    else:
        augmentation = Augmentation(text, seed=0, **options)
    augmentation.pool(e)
    return augmentation.fit(e, chosen)


def _shown(
    tuner: Finetuner, pool: ImageSet, needs: frozenset[str], e: Float[Tensor, "n d"], budget: int
) -> Pool:
    """The pool as a loop after the first shows it: losses of a classifier, labels of one set."""
    draw = torch.randperm(len(pool), generator=generator(0, "labelled"))
    seen = observe(tuner, pool, needs, known=e)
    return show_pool(tuner.pvm, pool, needs, seen, seen.embeddings, draw[:budget].sort().values)


def _few(pool: ImageSet, at_most: int) -> UInt8[Tensor, "b 3 h w"]:
    """Images of the pool, evenly spaced over its order, decoded."""
    number = min(at_most, len(pool))
    return pool.subset(torch.arange(number) * len(pool) // number).images[0:number]


def _rows(path: Path, size: int) -> Float[Tensor, "n d"]:
    rows = np.load(path, mmap_mode="c", allow_pickle=False)
    if len(rows) != size:
        raise BadInput(f"{path} has {len(rows)} rows; the pool needs {size}.")
    return torch.from_numpy(rows)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """As many threads as a run has."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""What the parts of a run cost: floating-point operations and seconds (Table 4).

Counted are torch's matrix products, convolutions and attention, a multiplication with its addition
as 2; element-wise work, sorting, solvers and what is not torch only take their part of the seconds.
"""

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vecaf_lib.captions import is_file, make, read_captions
from vecaf_lib.cea import augmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import load
from vecaf_lib.devices import use_device
from vecaf_lib.evaluation import embed_pool
from vecaf_lib.models.text import encode
from vecaf_lib.models.trunk import StoredStates, freeze
from vecaf_lib.models.vision import load_pvm
from vecaf_lib.objective import MULTI_CLASS
from vecaf_lib.observation import make_pool, observe
from vecaf_lib.seeding import generator
from vecaf_lib.selection import load as load_method
from vecaf_lib.selection.pool import budget_of
from vecaf_lib.training import Finetuner, Recipe

REPEATS, ENOUGH = 3, 5.0  # timed calls; seconds after which there is no further one
SAMPLE = 250  # images or captions that a cost by the piece is taken from, at most
STEPS = 2  # of finetuning, timed together
Cost = dict[str, float | None]
NONE: Cost = {"gflops": None, "seconds": None}


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
    states: Sequence[Path] = (),
) -> dict[str, Any]:
    """Measure the parts of a multi-run of ``method``, each once, and how often a run does them.

    Selection is the method's own on the real pool, of which ``ratio`` percent are selected in each
    loop; images and captions are a sample. ``image_embeddings`` are from the pretrained model,
    ``states`` files of a frozen trunk's, where there is one.

    Returns:
        JSON-able: ``parts`` (part -> gflops, seconds, times; ``times`` 0 if the run lacks it, null
        where nothing can be counted, or captions came as a file), and what a run depends on.
    """
    device = use_device(compute["device"])
    module = load_method(method["select"])
    torch.set_num_threads(compute["threads"])
    with warnings.catch_warnings(action="ignore"):  # the run itself warns
        pool = load(split="train", data=data, **dataset)
        budget = budget_of(ratio, len(pool))
        pvm = load_pvm(vision, len(pool.class_names), dataset, compute, seed=0)
        freeze(pvm, training["trainable"], training["blocks"])
        if states:
            pool = replace(pool, states=StoredStates(states, len(pool)))
        make_predictor = getattr(module, "LOSS_PREDICTOR", lambda *_, **__: None)
        predictor = make_predictor(pvm, generator(0, "companion"), **method["loss_predictor"] or {})
        recipe = replace(Recipe(**training), steps=2 * STEPS, evaluate_every=2 * STEPS)
        tuner = Finetuner(pvm, recipe, loops=2, seed=0, loss_predictor=predictor)

        # as after a loop: with losses of a classifier, and labels of one set
        e = torch.from_numpy(np.load(image_embeddings, mmap_mode="c"))
        seen = observe(tuner, pool, module.NEEDS, MULTI_CLASS, embeddings=e)
        labelled = torch.randperm(len(pool), generator=generator(0, "labelled"))[:budget].sort()[0]
        visible = make_pool(tuner.pvm, pool, module.NEEDS, seen, labelled)
        select = partial(module.select, visible, budget, **method["options"])
        cost, chosen = count(lambda: select(generator=generator(0, "selection", 0)))
        parts, sentences, lift = {"selection": cost}, list[str](), None
        if method["cea"]:
            parts["captioning"] = _captioning(dataset, captions, data, device)
            sentences = list(dict.fromkeys(read_captions(captions_file, pool.ids)))
            few = sentences[:: -(-len(sentences) // SAMPLE)]
            parts["text encoding"], _ = count(lambda: encode(few, device=device, **text), len(few))
            t = torch.from_numpy(np.load(text_embeddings, mmap_mode="c"))
            parts["CEA"], lift = count(lambda: _augment(method["cea"], t, e, chosen))
        images, subset = _sample(pool, SAMPLE), pool.subset(chosen)
        parts["embedding passes"], _ = count(lambda: embed_pool(tuner.pvm, images), len(images))

        def finetune() -> None:
            tuner.train_loss.clear()
            tuner.finetune(subset, subset, loop=0, lift=lift)  # too few steps for a validation

        parts["finetuning"], _ = count(finetune, STEPS)
    passes = bool(method["cea"] or module.NEEDS & {"embeddings", "losses", "predicted_losses"})
    times = {
        "captioning": len(pool) if method["cea"] else 0,
        "text encoding": len(sentences),  # equal ones are encoded once
        "CEA": loops if method["cea"] else 0,
        "embedding passes": len(pool) * loops * passes,  # the first is the embeddings stage
        "selection": loops,
        "finetuning": training["steps"],
    }
    return {
        "parts": {name: parts.get(name, NONE) | {"times": n} for name, n in times.items()},
        "pool": len(pool),
        "budget": budget,
        "loops": loops,
        "image_size": dataset["image_size"],
        "device": device.type,
        **{name: training[name] for name in ("steps", "batch_size")},
        **{name: compute[name] for name in ("threads", "precision", "evaluation_precision")},
    }


def _captioning(
    dataset: Mapping[str, Any], captions: Mapping[str, Any], data: Path, device: torch.device
) -> Cost:
    """Of one image; without a count where the captioner holds no torch module."""
    source = captions["source"]
    if is_file(source):
        return NONE
    size = captions["image_size"] or dataset["image_size"]
    pool = load(split="train", data=data, **{**dataset, "image_size": size, "memory_gib": 0.0})
    captioner = make(source, pool_images=pool.images, options=captions["options"], device=device)
    images = _sample(pool, captions["batch_size"])
    cost, _ = count(lambda: captioner(images), len(images))
    counted = any(isinstance(part, nn.Module) for part in vars(captioner).values())
    return cost if counted else cost | {"gflops": None}


def _augment(cea: Mapping[str, Any], text: Tensor, e: Tensor, chosen: Tensor) -> Any:
    """Equations 8 and 9 for one loop, the bridge fitted anew."""
    augmenting = augmentation(cea, text=text, seed=0)
    augmenting.pool(e)
    return augmenting.fit(e, chosen)


def _sample(pool: ImageSet, at_most: int) -> Shaped[Tensor, "b *_"]:
    """Images of the pool, or their stored states, evenly spaced over its order, decoded."""
    number = min(at_most, len(pool))
    return pool.inputs[torch.arange(number) * len(pool) // number]


def count(part: Callable[[], Any], pieces: int = 1) -> tuple[Cost, Any]:
    """Cost of one of ``pieces`` equal pieces of a part, and what the part returns.

    One call is counted, in attention's plain form, since the counter does not see fused layers; up
    to three (in five seconds) are timed as they are, and the median counts.
    """
    counter = FlopCounterMode(
        display=False,  # torch's formula has each group see all channels on its way back
        custom_mapping={torch.ops.aten.convolution_backward: _backward},
    )
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with counter, sdpa_kernel(SDPBackend.MATH):
            result = part()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    wait: Callable[[], Any] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH:
        wait()
        began = time.perf_counter()
        part()
        wait()
        seconds.append(time.perf_counter() - began)
    gflops = counter.get_total_flops() / 1e9 / pieces
    return {"gflops": gflops, "seconds": statistics.median(seconds) / pieces}, result


def _backward(gradient: Any, x: Any, weight: Any, *others: Any, **_: Any) -> int:
    """Operations of a convolution's backward pass: for the input and for the weights, as many."""
    transposed, needed = others[4], others[-1]
    places = math.prod((x if transposed else gradient)[2:])
    return int(sum(needed[:2]) * 2 * gradient[0] * places * math.prod(weight))

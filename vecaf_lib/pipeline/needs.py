"""What a profile needs: is it at hand (``check``, no model is loaded), and fetch it (``fetch``)."""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from vecaf_lib import captions
from vecaf_lib.data.fetch import fetch as fetch_images
from vecaf_lib.data.folder import refuse_difference
from vecaf_lib.data.images import FileImages, ImageSet
from vecaf_lib.data.load import SPLITS, all_ids, load_lazily
from vecaf_lib.errors import BadInput
from vecaf_lib.models import text, weights
from vecaf_lib.models.clip import checkpoint
from vecaf_lib.models.trunk import state_shape
from vecaf_lib.models.vision import template
from vecaf_lib.pipeline.runs import refuse_misfit
from vecaf_lib.pipeline.settings import Domain, Method, Settings, profile_path, read
from vecaf_lib.results.runs import runs_of
from vecaf_lib.selection.pool import budget_of

Line = tuple[str, bool, str]  # a thing's name, whether it is there, more about it
DATA = Path("data")
GIB = 2**30
LABELLED = re.compile(r"in(1|12|21|22)k")  # in timm's tags: trained with labels of ImageNet
RUN_FILE = 64 * 1024  # bytes that a run file and its part of the report take, roughly


def settings_of(profile: str | None) -> Settings:
    """The settings of a profile; without a name those of params.yaml."""
    return read(profile_path(profile, Path("profiles")) if profile else Path("params.yaml"))


def report(profile: str | None) -> None:
    """Print what ``check`` says of a profile, or of the active one; BadInput if it lacks any."""
    settings = settings_of(profile)
    _print(settings, check(settings, data=DATA))
    print(f"Profile {settings.profile} has all it needs.")


def check(settings: Settings, *, data: Path) -> Iterator[Line]:
    """Each thing that the profile needs: its name, whether it is there, and a line about it."""
    splits, section = dict[str, ImageSet](), settings.dataset.model_dump(exclude={"memory_gib"})

    def images(split: str) -> str:
        splits[split] = own = load_lazily(split=split, data=data, **section)
        return f"{len(own):,} of {len(own.class_names)} classes"

    for split in SPLITS:
        yield _line(f"images, {split}", images, split)
    pool = splits.get("train")
    yield _line("captions", _captions, settings, pool, data)
    for model in _models(settings):
        yield _line(*model)
    yield _line("pretraining", _pretraining, settings)
    if pool is not None:
        used = {name for run in runs_of(settings) for name in settings.methods[run.method].domains}
        for name in sorted(used):
            if (domain := settings.domains[name]).images == "imagenet_c":
                yield _line(f"domain {name}", _domain, settings, domain, pool, data)
        yield _line("budgets", _budgets, settings, pool)
        yield _line("disk", _disk, settings, splits, data)
    yield _line("finetuned", _finetuned, settings)
    yield _line("pages", _pages, settings)
    needed = settings.compute.memory_gib or 0.0
    yield _line("memory", _room, needed, psutil.virtual_memory().available / GIB)
    yield _line("processor", _processor, settings)


def _line(name: str, look: Callable[..., object], *arguments: Any) -> Line:
    try:
        return name, True, str(look(*arguments) or "")
    except BadInput as error:
        return name, False, str(error)


def _print(settings: Settings, lines: Iterable[Line]) -> None:
    """Print lines as they come; BadInput if a thing is missing."""
    missing = []
    for name, available, line in lines:
        print(f"{'ok' if available else 'MISSING':<8}{name:<20} {line}", flush=True)
        missing += [] if available else [name]
    if missing:
        raise BadInput(f"Profile {settings.profile} lacks: {'; '.join(missing)}.")


def _captions(settings: Settings, pool: ImageSet | None, data: Path) -> str:
    source = settings.captions.source
    if captions.is_file(source) and pool is not None:
        known = all_ids(data=data, **settings.dataset.model_dump())
        return f"{len(captions.read_captions(Path(source), pool.ids, known)):,} in {source}"
    captions.locate(source, settings.captions.options)
    return f"by {source}"


def _domain(settings: Settings, domain: Domain, pool: ImageSet, data: Path) -> str:
    """Whether every severity is there, with the pool's classes: labels are their numbers."""
    where: dict[str, Any] = {"data": data, "image_size": settings.dataset.image_size}
    for severity in domain.severities:
        options = {"corruption": domain.corruption, "severity": severity}
        images = load_lazily("imagenet_c", "test", root=domain.root, options=options, **where)
        here = Path(images.ids[0]).parents[1]
        refuse_difference(Path("train"), pool.class_names, here, images.class_names)
    return f"{domain.corruption}, {len(images):,} images a severity"


def _models(settings: Settings) -> Iterator[tuple[Any, ...]]:
    """Each pretrained model: its name, what locates it, which model, its weights, and more."""
    left_out = {name for table in settings.tables.values() for name in table.optional}
    used: list[Settings | Method] = [settings]
    used += [method for name, method in settings.methods.items() if name not in left_out]
    found: dict[tuple[Any, ...], str] = {}
    for own in used:
        if own.vision:
            found[weights.weights_file, own.vision.name, own.vision.weights] = "vision model"
        if e := own.text:
            found[text.locate, e.name, e.weights, e.model, e.revision] = "text encoder"
        if isinstance(own, Method) and (style := own.stylise):
            files = checkpoint(style.model, style.weights, field="stylise")
            found[weights.locate, files, style.weights] = "CLIPstyler's CLIP"
    return ((name, *where) for where, name in found.items())


def _budgets(settings: Settings, pool: ImageSet) -> str:
    for run in (runs := runs_of(settings)):
        refuse_misfit(run, pool, settings.training.batch_size)
    if (pool.labels.bincount() > 1).sum() < 2:
        raise BadInput("The pool needs two classes of at least two images; add images.")
    ratios = sorted({run.ratio for run in runs})
    return ", ".join(f"{ratio:g} % is {budget_of(ratio, len(pool)):,}" for ratio in ratios)


def _pretraining(settings: Settings) -> str:
    if settings.dataset.name != "imagenet":
        return f"not on {settings.dataset.name}"
    for method in sorted({run.method for run in runs_of(settings)}):
        vision = settings.methods[method].vision or settings.vision
        tag = weights.known_model(vision.name).tag
        if vision.weights in ("hub", "package") and LABELLED.search(tag or ""):
            raise BadInput(
                f"{vision.name} ({tag}) of {method} has learnt ImageNet's labels already; use "
                "vit_base_patch16_224.dino or vit_small_patch16_224.dino, or give the path of "
                "weights that were made without labels."
            )
    return "without ImageNet's labels"


def _pages(settings: Settings) -> None:
    vecaf, drawn = settings.methods.get("vecaf"), settings.figures.methods
    if not (vecaf and vecaf.select == "ods" and vecaf.cea and not vecaf.vision):
        raise BadInput("methods.vecaf should be there, with select: ods, cea, and no vision model.")
    if lacking := sorted({"activeft", "vecaf"} - {*drawn}):
        raise BadInput(
            f"figures.methods has no {lacking[0]}; figure 6 compares activeft and vecaf."
        )
    if "table1" not in settings.tables:
        raise BadInput("tables.table1 is missing, which the report begins with.")
    if "full" in drawn and "full" not in settings.tables["table1"].methods:
        raise BadInput("figures.methods has full, but tables.table1.methods not; add it there.")


def _finetuned(settings: Settings) -> str:
    training, size = settings.training, settings.dataset.image_size
    own = {method.vision.name for method in settings.methods.values() if method.vision}
    for name in sorted({settings.vision.name, *own}):
        template(name, size, training.drop_path)
        if training.trainable != "all":
            state_shape(name, size, training.trainable, training.blocks)
    return str(training.trainable)


def _disk(settings: Settings, splits: dict[str, ImageSet], data: Path) -> str:
    pool, training = splits["train"], settings.training
    of_text = text.TEXT_ENCODERS[settings.text.name].width or settings.text.width
    floats = len(pool) * (template(settings.vision.name, None).head_hidden_size + of_text)
    if training.trainable != "all":
        how = settings.dataset.image_size, training.trainable, training.blocks
        rows = sum(map(len, splits.values())) + len(pool) * training.flip
        floats += rows * state_shape(settings.vision.name, *how).numel()
    needed = len(runs_of(settings)) * RUN_FILE + 2 * 4 * floats  # twice: DVC keeps a copy
    pixels = torch.Size(pool.images.shape).numel()
    if isinstance(pool.images, FileImages) and pixels <= settings.dataset.memory_gib * GIB:
        needed += pixels  # decoded once, into data/generated/decoded
    return _room(needed / GIB, shutil.disk_usage(data).free / GIB)


def _room(needed: float, free: float) -> str:
    room = f"{needed:.2f} GiB needed, {free:.1f} GiB free"
    if needed > free:
        raise BadInput(f"{room}; make room.")
    return room


def _processor(settings: Settings) -> str:
    compute, gpus = settings.compute, torch.cuda.device_count()
    if compute.device == "cpu" or (compute.device == "auto" and not gpus):
        return f"CPU, {psutil.cpu_count(logical=True)} cores"
    if gpus < compute.processes:
        raise BadInput(
            f"compute.processes is {compute.processes}, but torch {torch.__version__} sees {gpus} "
            "GPUs; install torch's CUDA build, or set compute.device to cpu, which is very slow."
        )
    card, needed = torch.cuda.get_device_properties(0), compute.gpu_memory_gib or 0.0
    line = f"{gpus} x {card.name}, {card.total_memory / GIB:.0f} GiB"
    if card.total_memory / GIB < needed:
        raise BadInput(f"{line}; the profile needs {needed:g}: lower training.batch_size.")
    return line


def fetch(profile: str | None, dataset: str | None = None) -> None:
    """Fetch and verify a profile's images and weights, or the images of one data set.

    Nothing else uses the network, and what is there is not fetched again. BadInput: something
    could not be fetched; the rest was.
    """
    if dataset:
        fetch_images(dataset, DATA)
        return
    settings = settings_of(profile)
    source = settings.captions
    parts: list[tuple[Any, ...]] = [("images", _fetch_images, settings)]
    parts += [(*model, True) for model in _models(settings) if model[3] == "hub"]
    parts += [("captioner", captions.locate, source.source, source.options, True)]
    _print(settings, (_line(*part) for part in parts))


def _fetch_images(settings: Settings) -> None:
    dataset = settings.dataset
    try:
        load_lazily(split="train", data=DATA, **dataset.model_dump(exclude={"memory_gib"}))
    except BadInput:
        if dataset.root:
            raise
        fetch_images(dataset.options.get("of", dataset.name), DATA)

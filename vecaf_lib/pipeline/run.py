"""One run: what it depends on, and how its result is made."""

import functools
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vecaf_lib import selection
from vecaf_lib.cea import Augmentation, OfficialAugmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import load
from vecaf_lib.devices import use_device
from vecaf_lib.evaluation import measure
from vecaf_lib.files import read_json, sha256_file, sha256_json
from vecaf_lib.loop import active_finetuning
from vecaf_lib.models.extract import embeddings
from vecaf_lib.models.vision import PVM, load_backbone
from vecaf_lib.models.weights import weights_identity
from vecaf_lib.objective import Objective
from vecaf_lib.pipeline.project import Views, views
from vecaf_lib.pipeline.provenance import code_digests, modules_behind
from vecaf_lib.results.runs import Run
from vecaf_lib.seeding import generator
from vecaf_lib.selection.pool import budget_of
from vecaf_lib.stylise import stylised
from vecaf_lib.training import Recipe

LIBRARIES = ("torch", "timm", "numpy", "scipy", "accelerate", "pillow")
COUNTED = ("threads", "processes", "precision", "evaluation_precision")  # they change the bits


@dataclass(frozen=True)
class Job:
    """What the runs of one method depend on."""

    settings: Mapping[str, Any]  # sections of the validated settings, JSON-able
    name: str  # of the method
    data: Path | str  # the project's data folder
    inputs: Path | str  # file that identifies the images, see ``provenance.write_inputs``
    embeddings: Path | str  # folder of the files that ``views`` names
    blind: bool = False  # the validation split stands in for the test split, which nothing reads

    @property
    def method(self) -> dict[str, Any]:
        """The method's own settings."""
        return self.settings["methods"][self.name]

    @property
    def views(self) -> Views:
        """What the method works on."""
        return views(self.settings, self.name)

    def images(self, split: str) -> ImageSet:
        """One split of the data set; read once a process."""
        split = "validation" if self.blind and split == "test" else split
        return _images(json.dumps(self.settings["dataset"]), split, str(self.data))

    def provenance(self) -> dict[str, Any]:
        """What the results depend on, without wording and places; ``digest`` is a hash of it."""
        method, view, folder = self.method, self.views, self.embeddings
        dataset, compute, domains = (self.settings[n] for n in ("dataset", "compute", "domains"))
        device = "cuda" if compute["device"] != "cpu" and torch.cuda.is_available() else "cpu"
        tested = sorted({method["domain"], *method["domains"]} - {None})
        settings = {
            "vision": view.vision,
            "training": self.settings["training"],
            "dataset": _without(dataset, "root", "memory_gib"),
            "method": _without(method, "repetitions", "vision", "text"),
            "domains": {name: _without(domains[name], "root") for name in tested},
            "compute": {name: compute[name] for name in COUNTED} | {"device": device},
        }
        inputs = {
            "images": sha256_json(read_json(Path(self.inputs))["images"]),
            "image embeddings": sha256_file(view.image_file(folder)),
            "vision weights": weights_identity(view.vision["name"], view.vision["weights"]),
        }
        if view.needs_text:
            inputs["text embeddings"] = sha256_file(view.text_file(folder))
        sources = {dataset["name"], dataset["options"].get("of", dataset["name"])}
        sources |= {domains[name]["images"] for name in method["domains"]}
        modules = {f"vecaf_lib.data.{name.removesuffix('_c')}" for name in sources} | {
            active_finetuning.__module__
        }
        modules |= {f"vecaf_lib.selection.{method['select']}"}
        modules |= {stylised.__module__} if method["stylise"] else set()
        code = code_digests(modules_behind(modules) | {__name__})
        made_from: dict[str, Any] = {"settings": settings, "inputs": inputs, "code": code}
        made_from |= {"versions": {name: metadata.version(name) for name in LIBRARIES}}
        made_from |= {"tested_on": "validation"} if self.blind else {}
        return made_from | {"digest": sha256_json(made_from)}


@functools.lru_cache(maxsize=32)
def _images(dataset: str, split: str, data: str) -> ImageSet:
    return load(split=split, data=Path(data), **json.loads(dataset))


def _without(section: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in names}


def make_run(job: Job, run: Run) -> dict[str, Any]:
    """Finetune once and return what the run file is to hold."""
    method, view, settings = job.method, job.views, job.settings
    compute, train = settings["compute"], job.images("train")
    use_device(compute["device"])
    pvm = PVM(
        load_backbone(**view.vision, image_size=settings["dataset"]["image_size"]),
        len(train.class_names),
        generator=generator(run.seed, "initialisation"),
        precision=compute["precision"],
        evaluation_precision=compute["evaluation_precision"],
    )
    if method["stylise"]:
        prompt = settings["domains"][method["domain"]]["prompt"]
        train = stylised(train, prompt=prompt, pvm=pvm, seed=run.seed, **method["stylise"])
    module = selection.load(method["select"])
    make_predictor = getattr(module, "LOSS_PREDICTOR", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = active_finetuning(
            pvm,
            train,
            job.images("validation"),
            job.images("test"),
            select=functools.partial(module.select, **method["options"]),
            needs=module.NEEDS,
            cea=augmentation(job, seed=run.seed, size=len(train)),
            budget=budget_of(run.ratio, len(train)),
            loops=run.loops,
            multi_run=run.multi_run,
            recipe=Recipe(**settings["training"]),
            seed=run.seed,
            first_losses=method["first_losses"],
            pretrained_embeddings=embeddings(view.image_file(job.embeddings), size=len(train)),
            accumulate=method["accumulate"],
            objective=Objective(train.class_names.index(run.target) if run.target else None),
            loss_predictor=make_predictor and make_predictor(pvm, generator(run.seed, "companion")),
            cold_start=getattr(module, "COLD_START", False),
        )
    if method["domains"] and not run.target:
        result["domains"] = {name: _in_domain(job, pvm, name) for name in method["domains"]}
    all_labels = "losses" in module.NEEDS or method["class_names"]
    result["labels_seen"] = "all" if all_labels else "chosen only"
    ours = {str(warning.message) for warning in caught if "vecaf_lib" in warning.filename}
    return result | {"warnings": sorted(ours)}


def _in_domain(job: Job, pvm: PVM, domain: str) -> dict[str, float]:
    """Last-step accuracy in percent by severity of the corruption, and their ``mean``."""
    own, dataset = job.settings["domains"][domain], job.settings["dataset"]
    options, root = {"corruption": own["corruption"]}, own["root"]
    if own["images"] == "corrupted":
        options |= {"of": dataset["name"], "of_options": dataset["options"]}
        root = dataset["root"]
    section = dataset | {"name": own["images"], "root": root}
    accuracies = {}
    for severity in own["severities"]:
        text = json.dumps(section | {"options": options | {"severity": severity}})
        accuracies[str(severity)] = measure(pvm, _images(text, "test", str(job.data)))["accuracy"]
    return accuracies | {"mean": sum(accuracies.values()) / len(accuracies)}


def augmentation(job: Job, *, seed: int, size: int) -> Augmentation | OfficialAugmentation | None:
    """CEA as the method's settings have it, or None."""
    cea = job.method["cea"]
    if cea is None:
        return None
    text = embeddings(job.views.text_file(job.embeddings), size=size)
    if cea["mode"] == "official":
        return OfficialAugmentation(text, seed=seed, bridge=cea["bridge"], ridge=cea["ridge"])
    return Augmentation(text, seed=seed, **_without(cea, "mode"))

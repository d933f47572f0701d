"""One run: what it depends on, and how its result is made."""

import functools
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vecaf_lib import selection
from vecaf_lib.cea import Augmentation, augmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.data.load import SPLITS, load
from vecaf_lib.devices import use_device
from vecaf_lib.evaluation import measure
from vecaf_lib.files import read_json, sha256_file, sha256_json
from vecaf_lib.loop import active_finetuning
from vecaf_lib.models.extract import embeddings
from vecaf_lib.models.trunk import StoredStates, freeze
from vecaf_lib.models.vision import PVM, load_pvm
from vecaf_lib.models.weights import weights_identity
from vecaf_lib.objective import MULTI_CLASS, Objective
from vecaf_lib.pipeline.project import Views, views
from vecaf_lib.pipeline.provenance import code_digests, modules_behind
from vecaf_lib.results.runs import Run
from vecaf_lib.seeding import generator
from vecaf_lib.selection.pool import budget_of, labels_seen
from vecaf_lib.stylise import stylised
from vecaf_lib.training import LossPredictor, Recipe

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

    @property
    def method(self) -> dict[str, Any]:
        """The method's own settings."""
        return self.settings["methods"][self.name]

    @property
    def views(self) -> Views:
        """What the method works on."""
        return views(self.settings, self.name)

    def images(self, split: str) -> ImageSet:
        """One split of the data set, with a frozen trunk's states; read once a process."""
        blind = self.settings["dataset"]["blind"]
        split = "validation" if blind and split == "test" else split
        images = _images(json.dumps(self.settings["dataset"]), split, str(self.data))
        files = self.states_files(split)
        return replace(images, states=StoredStates(files, len(images))) if files else images

    def states_files(self, split: str) -> list[Path]:
        """See ``Views.states_files``."""
        return self.views.states_files(self.embeddings, self.settings["training"], split)

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
        if view.prompt:
            inputs["text embeddings without it"] = sha256_file(view.plain.text_file(folder))
        for split in SPLITS[:2] if dataset["blind"] else SPLITS:
            for number, file in enumerate(self.states_files(split)):
                inputs[f"{split} states{', mirrored' if number else ''}"] = sha256_file(file)
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
        return made_from | {"digest": sha256_json(made_from)}


@functools.lru_cache(maxsize=32)
def _images(dataset: str, split: str, data: str) -> ImageSet:
    return load(split=split, data=Path(data), **json.loads(dataset))


def _without(section: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in names}


def make_pvm(job: Job, seed: int) -> PVM:
    """The method's pretrained model with a fresh classifier."""
    sections, classes = job.settings, len(job.images("train").class_names)
    own: Any = {"seed": seed, "drop_path": sections["training"]["drop_path"]}
    return load_pvm(job.views.vision, classes, sections["dataset"], sections["compute"], **own)


def make_predictor(job: Job, pvm: PVM, seed: int) -> LossPredictor | None:
    """The loss predictor of LearnLoss and TA-VAAL, None for other methods."""
    kind = getattr(selection.load(job.method["select"]), "LOSS_PREDICTOR", None)
    options = job.method["loss_predictor"] or {}
    return kind and kind(pvm, generator(seed, "companion"), **options)


def make_run(job: Job, run: Run) -> dict[str, Any]:
    """Finetune once and return what the run file is to hold."""
    method, settings, train = job.method, job.settings, job.images("train")
    recipe = Recipe(**settings["training"])
    use_device(settings["compute"]["device"])
    pvm = make_pvm(job, run.seed)
    if method["stylise"]:
        prompt = settings["domains"][method["domain"]]["prompt"]
        train = stylised(train, prompt=prompt, pvm=pvm, seed=run.seed, **method["stylise"])
    freeze(pvm, recipe.trainable, recipe.blocks)
    module = selection.load(method["select"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = active_finetuning(
            pvm,
            train,
            job.images("validation"),
            job.images("test"),
            select=functools.partial(module.select, **method["options"]),
            needs=module.NEEDS,
            cea=cea_of(job, seed=run.seed, size=len(train)),
            budget=budget_of(run.ratio, len(train)),
            loops=run.loops,
            multi_run=run.multi_run,
            recipe=recipe,
            seed=run.seed,
            first_losses=method["first_losses"],
            pretrained_embeddings=embeddings(job.views.image_file(job.embeddings), size=len(train)),
            sets=run.sets,
            **objectives(run, train.class_names),
            loss_predictor=make_predictor(job, pvm, run.seed),
            cold_start=getattr(module, "COLD_START", False),
            probe=method["probe"],
        )
    if method["domains"] and not run.target:
        result["domains"] = {name: _in_domain(job, pvm, name) for name in method["domains"]}
    result["labels_seen"] = "all" if method["class_names"] else labels_seen(method["select"])
    ours = {str(warning.message) for warning in caught if "vecaf_lib" in warning.filename}
    return result | {"warnings": sorted(ours)}


def objectives(run: Run, class_names: Sequence[str]) -> dict[str, Objective]:
    """What a run finetunes and selects by: all classes, or one against all others (Table 2).

    With the reading "selection" selection alone has the 1-vs-all loss, and the accuracy is the
    recall of that class among all.
    """
    if not run.target:
        return {"objective": MULTI_CLASS}
    target = class_names.index(run.target)
    if run.reading == "selection":
        return {"objective": Objective(recall_of=target), "selection_objective": Objective(target)}
    return {"objective": Objective(target)}


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


def cea_of(job: Job, *, seed: int, size: int) -> Augmentation | None:
    """CEA as the method's settings have it, with the pool's text embeddings; or None."""
    cea, view = job.method["cea"], job.views
    if cea is None:
        return None
    text, plain = (embeddings(v.text_file(job.embeddings), size=size) for v in (view, view.plain))
    return augmentation(cea, text=text, plain_text=plain if view.prompt else None, seed=seed)

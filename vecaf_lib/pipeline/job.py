"""What the runs of one method depend on, and one hash of it all."""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import cuda

from vecaf_lib.datasets import ImageSet, load
from vecaf_lib.encoders.weights import weights_identity
from vecaf_lib.files import read_json, sha256_file, sha256_json
from vecaf_lib.pipeline.provenance import code_digests, imports_of, library_versions

LIBRARIES = ("torch", "timm", "numpy", "scipy", "accelerate", "pillow")
ROOT = Path(__file__).parents[2]
COUNTED = ("threads", "processes", "precision", "evaluation_precision")  # they change the bits


@dataclass(frozen=True)
class Job:
    """All that a process needs for the runs of one method; plain values, picklable.

    Attributes:
        dataset, vision, training, method, compute, domains: sections of params.yaml; ``vision`` is
            the method's own where it names one.
        data: the project's data folder.
        inputs: what identifies the images, see ``vecaf_lib.pipeline.inputs``.
        text: the pool's text embeddings.
        image: the pool's image embeddings under the pretrained weights.
        runs: folder of run files.
        blind: the validation split stands in for the test split, which nothing reads then.
    """

    dataset: Mapping[str, Any]
    vision: Mapping[str, Any]
    training: Mapping[str, Any]
    method: Mapping[str, Any]
    compute: Mapping[str, Any]
    domains: Mapping[str, Any]
    data: Path
    inputs: Path
    text: Path
    image: Path
    runs: Path
    blind: bool = False

    def plain(self) -> dict[str, Any]:
        """JSON-able; ``from_plain`` reads it back in another process."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in vars(self).items()}

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "Job":
        """Read back what ``plain`` made."""
        paths = {f.name for f in fields(cls) if f.type is Path}
        values: dict[str, Any] = {k: Path(v) if k in paths else v for k, v in content.items()}
        return cls(**values)

    def images(self, split: str) -> ImageSet:
        """One split of the data set; read once a process."""
        if self.blind and split == "test":
            split = "validation"
        return _images(json.dumps(self.dataset), split, self.data)

    def domain_images(self, domain: str, severity: int) -> ImageSet:
        """Test images of a target domain at one severity; read once a process."""
        section = domain_dataset(self.dataset, self.domains[domain], severity)
        return _images(json.dumps(section), "test", self.data)

    def provenance(self) -> dict[str, Any]:
        """What the results depend on; ``digest`` is one hash of it all.

        The grid of the method is left out: adding a seed or a ratio leaves finished runs valid.
        """
        settings = {name: getattr(self, name) for name in ("vision", "training")}
        settings["dataset"] = _without(self.dataset, "root", "memory_gib")
        settings["method"] = _without(self.method, "grid", "vision", "text")
        tested = {self.method["domain"], *self.method["domains"]} - {None}
        settings["domains"] = {
            name: _without(self.domains[name], "root") for name in sorted(tested)
        }
        device = "cuda" if self.compute["device"] != "cpu" and cuda.is_available() else "cpu"
        settings["compute"] = {name: self.compute[name] for name in COUNTED} | {"device": device}
        inputs = {
            "images": sha256_json(read_json(self.inputs)["images"]),
            "image embeddings": _digest(self.image),
            "vision weights": weights_identity(self.vision["name"], self.vision["weights"]),
        }
        if self.method["cea"]:
            inputs["text embeddings"] = _digest(self.text)
        select, dataset = self.method["select"], self.dataset["name"]
        sources = {dataset, self.dataset["options"].get("of", dataset)}
        sources |= {self.domains[name]["images"] for name in self.method["domains"]}
        files = {Path("vecaf_lib/datasets", f"{name}.py") for name in sources}
        files |= {Path("vecaf_lib/selection", f"{select}.py"), Path("vecaf_lib/loop.py")}
        files |= {found for file in files for found in imports_of(file, ROOT)}
        files.add(Path("vecaf_lib/pipeline/run.py"))
        made_from: dict[str, Any] = {
            "settings": settings,
            "inputs": inputs,
            "code": code_digests(files, ROOT),
            "versions": library_versions(LIBRARIES),
        }
        if self.blind:
            made_from["tested_on"] = "validation"
        return made_from | {"digest": sha256_json(made_from)}


def _without(section: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in section.items() if name not in names}


def domain_dataset(
    dataset: Mapping[str, Any], domain: Mapping[str, Any], severity: int
) -> dict[str, Any]:
    """The section ``dataset`` of a target domain's test images.

    Args:
        dataset: of the source images.
        domain: section of the settings.
        severity: 1 to 5.
    """
    options = {"corruption": domain["corruption"], "severity": severity}
    root = domain["root"]
    if domain["images"] == "corrupted":
        options |= {"of": dataset["name"], "of_options": dataset["options"]}
        root = dataset["root"]
    return {**dataset, "name": domain["images"], "root": root, "options": options}


def _digest(path: Path) -> str:
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


@functools.lru_cache(maxsize=32)
def _images(dataset: str, split: str, data: Path) -> ImageSet:
    return load(split=split, data=data, **json.loads(dataset))

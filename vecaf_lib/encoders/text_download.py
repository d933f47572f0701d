"""Fetching a language encoder from the Hugging Face hub: the only place that uses a network."""

from huggingface_hub import HfApi, snapshot_download

from vecaf_lib.encoders.text_files import (
    CLIP_CONFIG,
    CONFIG,
    TOKENIZER_EXTRAS,
    TOKENIZERS,
    on_hub,
)
from vecaf_lib.encoders.text_registry import text_encoder_kind
from vecaf_lib.errors import BadInput


def download(name: str, model: str | None = None, revision: str | None = None) -> None:
    """Fetch the encoder ``name`` from the Hugging Face hub to its local cache.

    Only what the encoder needs is fetched: of several forms of the weights safetensors, and no
    other framework's.

    Raises:
        BadInput: the hub cannot be reached, or does not have it.
    """
    kind = text_encoder_kind(name)
    if kind.source == "hashing":
        return
    repository, forms = on_hub(kind, model or kind.model)
    try:
        there = HfApi().list_repo_files(repository, revision=revision)
        wanted = _needed(there, forms)
        snapshot_download(repository, revision=revision, allow_patterns=wanted)
    except Exception as error:  # the hub, its client and the connection raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"text.model: {repository} cannot be fetched from the Hugging Face hub ({reason})."
        ) from error


def _needed(there: list[str], forms: tuple[str, ...]) -> list[str]:
    """Of a repository's files those that the encoder reads: weights in the first form there is."""
    small = {CONFIG, CLIP_CONFIG, *TOKENIZER_EXTRAS, *(n for names in TOKENIZERS for n in names)}
    for form in forms:
        stem, _, suffix = form.rpartition(".")
        if form in there:
            weights = {form}
        elif f"{form}.index.json" in there:
            parts = {n for n in there if n.startswith(f"{stem}-") and n.endswith(f".{suffix}")}
            weights = {f"{form}.index.json", *parts}
        else:
            continue
        return [name for name in there if name in weights | small]
    raise FileNotFoundError(f"it has no {' or '.join(forms)}")

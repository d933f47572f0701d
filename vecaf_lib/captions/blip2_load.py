"""Load a BLIP-2 checkpoint from a folder, and refuse one that does not fit."""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from vecaf_lib.encoders._quiet import quiet
from vecaf_lib.errors import BadInput


def load(folder: Path, *, dtype: torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """Processor and model, from safetensors or a pickle of nothing but tensors.

    Raises:
        BadInput: the folder holds another kind of model, a file is damaged, or tensors are missing
            or of another shape. Surplus tensors, which change nothing, are a warning.
    """
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise BadInput(
            f"captions.options.weights: {folder / 'config.json'} is not readable ({error})."
        ) from error
    if kind != "blip-2":
        raise BadInput(
            f"captions.options.weights: {folder} holds a model of type {kind!r}; it must be "
            "'blip-2'."
        )
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            processor = Blip2Processor.from_pretrained(folder, local_files_only=True)
            model, report = Blip2ForConditionalGeneration.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                dtype=dtype,
                ignore_mismatched_sizes=True,  # reported, so that ours is the one sentence
                output_loading_info=True,
            )
    except Exception as error:  # many kinds for a damaged file
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise BadInput(
            f"captions.options.weights: {folder} is not a readable BLIP-2 checkpoint ({reason})."
        ) from error
    _refuse(folder, report)
    _give_image_tokens(folder, processor, model)
    return processor, model.to(device).eval().requires_grad_(False)


def _refuse(folder: Path, report: dict[str, Any]) -> None:
    missing = sorted(report["missing_keys"])
    unlike = sorted(name for name, *_ in report["mismatched_keys"])
    surplus = sorted(report["unexpected_keys"])
    for names, what in ((missing, "lacks"), (unlike, "has another shape for")):
        if names:
            raise BadInput(
                f"captions.options.weights: {folder} {what} {len(names)} of the model's tensors "
                f"(the first: {names[0]}); use an unchanged copy of the checkpoint."
            )
    if surplus:
        warnings.warn(
            f"{folder} has {len(surplus)} tensors that the model does not use (the first: "
            f"{surplus[0]}).",
            stacklevel=4,
        )


def _give_image_tokens(folder: Path, processor: Any, model: Any) -> None:
    """Settle which token stands for the image, which checkpoints before 2025 leave open."""
    token = processor.tokenizer.convert_tokens_to_ids(processor.image_token.content)
    if processor.num_query_tokens is None:
        processor.num_query_tokens = model.config.num_query_tokens
    if model.config.image_token_id is None:
        model.config.image_token_id = token
    rows = model.get_input_embeddings().weight.shape[0]
    if model.config.image_token_id != token or token >= rows:
        raise BadInput(
            f"captions.options.weights: {folder} has the image token {model.config.image_token_id} "
            f"in its config and {token} in its tokenizer, of {rows} tokens; use a copy of the "
            "hub's present revision."
        )

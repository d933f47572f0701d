"""Let torchvision be imported beside a CPU-only torch.

torchvision's wheel on PyPI is built for CUDA. Beside a CPU build of torch its compiled operators
cannot be loaded, and its import then fails with "operator torchvision::nms does not exist",
taking timm, open_clip and transformers with it. None of those needs the operators here, only
their schemas. With a matched build the operators load and nothing is declared.
"""

import importlib.util
import sys
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a Library's schemas live as long as the object


def make_torchvision_importable() -> None:
    """Declare the two missing schemas, only if torchvision's own operators cannot be loaded."""
    spec = importlib.util.find_spec("torchvision")
    if "torchvision" in sys.modules or _declared or spec is None or spec.origin is None:
        return
    compiled = sorted(Path(spec.origin).parent.glob("_C*.so"))
    for path in compiled:
        try:
            torch.ops.load_library(str(path))
        except OSError:
            continue
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + _SIGNATURE)
    _declared.append(library)

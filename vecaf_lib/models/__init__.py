"""Models: images (timm), captions (sentence-transformers, open_clip).

torchvision's wheel is built for CUDA; beside a CPU build of torch its import fails, and takes timm,
open_clip and transformers along. They need no more of its operators than their schemas, which are
declared here. With a matched build nothing is declared.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_torchvision = find_spec("torchvision")  # found, but not imported, which takes a second
try:
    for library in Path(_torchvision.origin or "").parent.glob("_C.*") if _torchvision else ():
        torch.ops.load_library(library)
except OSError:  # an undefined symbol
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )

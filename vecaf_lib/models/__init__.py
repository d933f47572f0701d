"""Models: images (timm), captions (sentence-transformers, open_clip).

torchvision's wheel is built for CUDA; beside a CPU build of torch its operators do not load, and
its import fails, taking timm, open_clip and transformers along. None of them needs more of the
operators than their schemas, which are declared here. With a matched build nothing is declared.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:  # operator torchvision::nms does not exist
    for name in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )

"""Small pools, models and images, made up."""

import vecaf_lib.models  # noqa: F401 (timm can be imported after it)

# isort: split
from typing import Any

import timm
import torch

from vecaf_lib.models.vision import PVM


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pool_fields(n: int, d: int, draw: torch.Generator) -> dict[str, Any]:
    """Fields of a pool of ``n`` beside embeddings and losses, once a tenth of it is labelled."""
    labelled = torch.arange(0, n, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = torch.nn.Linear(d, 3).requires_grad_(False)
    return {
        "predicted_losses": torch.randn(n, generator=draw),
        "images": torch.randint(0, 256, (n, 3, 32, 32), generator=draw).to(torch.uint8),
        "labelled": labelled,
        "labels": labelled % 3,
        "all_labels": torch.arange(n) % 3,
        "classifier": classifier,
        "probabilities": torch.rand(n, 3, generator=draw).softmax(1),
    }


def make_pvm(
    architecture: str = "test_resnet", *, seed: int = 0, classes: int = 3, **options: Any
) -> PVM:
    """Random weights, some 400,000 parameters; ``seed`` is the classifier's."""
    sizes = {"img_size": 32} if "vit" in architecture else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = timm.create_model(architecture, pretrained=False, **sizes, **options)
    return PVM(backbone, classes, generator=seeded(seed))

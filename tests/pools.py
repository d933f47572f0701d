"""What a pool knows beside its embeddings and losses, made up."""

from typing import Any

import torch


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def known(n: int, d: int, draw: torch.Generator) -> dict[str, Any]:
    """What a pool of ``n`` tells beside embeddings and losses, once a tenth of it is labelled."""
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
    }

"""A tiny CLIP with random weights, saved as open_clip saves one."""

import vecaf_lib.models  # noqa: F401 (open_clip can be imported after it)

# isort: split
import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf

CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
WEIGHTS = "open_clip_model.safetensors"


class NoTokenizer:
    """open_clip saves a tokenizer of the hub's; CLIP's own is part of its code."""

    def save_pretrained(self, folder: Path) -> None: ...


def save(folder: Path, **changes: Any) -> Any:
    """The model itself, saved in ``folder``."""
    folder.mkdir(parents=True)
    config = CONFIG | changes
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}").eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    save_for_hf(model, NoTokenizer(), config, str(folder), safe_serialization=True)
    return model

"""BLIP-2 (Li et al., ICML 2023) as the captioner: what the paper uses (section 1)."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from vecaf_lib.captions import Captioner
from vecaf_lib.data.images import Images
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_file, sha256_json
from vecaf_lib.models.weights import Checkpoint, explained, locate, quiet
from vecaf_lib.options import Count, Positive, Whole

NEEDS = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json", "spiece.model"),
)
EXTRAS = ("*_config.json", "*_map.json", "merges.txt", "added_tokens.json", "chat_template.json")
KINDS = {".json", ".txt", ".model", ".safetensors", ".bin"}  # of files that are digested
LONGER = 5  # tokens at least, when a caption is empty; SAMPLING, when it is so again
SAMPLING: dict[str, Any] = {"do_sample": True, "num_beams": 1, "top_p": 0.9, "length_penalty": None}
SEED = 0
Text = Annotated[str, Field(min_length=1)]


class Blip2Captioner(Captioner):
    """Captions by a BLIP-2 model: float16 on a GPU, float32 on a CPU.

    A caption without a letter or digit counts as empty. It is decoded again, alone, first with at
    least five tokens, then by sampling from a fixed seed; if nothing helps, it is ``when_empty``.

    Args:
        weights: ``hub`` (the local cache; absent, the network unless HF_HUB_OFFLINE=1), or the path
            of a folder as ``save_pretrained`` writes it.
        prompt: what the caption continues, such as "a photo of"; not a part of the caption.
        num_beams, max_new_tokens, min_new_tokens, repetition_penalty, length_penalty: of
            transformers' ``generate``.
    """

    def __init__(
        self,
        *,
        pool_images: Images | None = None,
        device: str | torch.device = "cpu",
        model: Text = "Salesforce/blip2-opt-2.7b",
        revision: str | None = None,
        weights: Text = "hub",
        prompt: str = "",
        num_beams: Count = 5,
        max_new_tokens: Count = 30,
        min_new_tokens: Whole = 1,
        repetition_penalty: Positive = 1.0,
        length_penalty: float = 1.0,
        when_empty: Text = "a picture",
    ) -> None:
        if min_new_tokens > max_new_tokens:
            most = f"at most {max_new_tokens}, which is max_new_tokens"
            raise BadInput(f"captions.options.min_new_tokens is {min_new_tokens}; give {most}.")
        folder = self.locate({"model": model, "revision": revision, "weights": weights}, fetch=True)
        self._device = torch.device(device)
        self._dtype = torch.float16 if self._device.type == "cuda" else torch.float32
        with explained(f"captions.options.weights: {folder} is no unchanged BLIP-2 checkpoint"):
            kind = json.loads((folder / "config.json").read_bytes())["model_type"]
            if kind != "blip-2":
                raise ValueError(f"it is of type {kind!r}")
            local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
            with quiet(), torch.random.fork_rng(devices=[]):
                self._processor = processor = Blip2Processor.from_pretrained(folder, **local)
                # safetensors, or a pickle of nothing but tensors
                net, report = Blip2ForConditionalGeneration.from_pretrained(
                    folder, weights_only=True, dtype=self._dtype, output_loading_info=True, **local
                )
            if missing := sorted(report["missing_keys"]):
                raise ValueError(f"{len(missing)} tensors are missing, such as {missing[0]}")
            # which token stands for the image, checkpoints before 2025 leave open
            token = processor.tokenizer.convert_tokens_to_ids(processor.image_token.content)
            processor.num_query_tokens = processor.num_query_tokens or net.config.num_query_tokens
            net.config.image_token_id = net.config.image_token_id or token
        self._model = net.to(device).eval().requires_grad_(False)
        self._prompt, revision = prompt, folder.name  # of snapshots/<commit>
        if weights != "hub":
            own = [path for path in folder.iterdir() if path.suffix in KINDS]
            digest = sha256_json({path.name: sha256_file(path) for path in own})
            model, revision = folder.resolve().name, f"sha256:{digest}"
        self.when_empty = when_empty
        self._decoding: dict[str, Any] = {
            "do_sample": False,
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "repetition_penalty": repetition_penalty,
            "length_penalty": length_penalty,
        }
        longer = {"min_new_tokens": max(min_new_tokens, min(LONGER, max_new_tokens))}
        self._retries = [longer, longer | SAMPLING]
        self.record = {
            "captioner": "blip2",
            "model": model,
            "revision": revision,
            "prompt": prompt,
            "decoding": self._decoding,
            "retries": [*self._retries, {"seed": SEED}],
            "when_empty": when_empty,
            "precision": str(self._dtype).removeprefix("torch."),
            "versions": {name: version(name).split("+")[0] for name in ("torch", "transformers")},
        }

    @staticmethod
    def locate(options: Mapping[str, Any], *, fetch: bool) -> Path:
        """The folder of config, tokenizer and weights."""
        model, revision, weights = (options[name] for name in ("model", "revision", "weights"))
        checkpoint = Checkpoint("captions.options", model, revision, needs=NEEDS, extras=EXTRAS)
        return locate(checkpoint, weights, fetch)

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One caption an image, [b]; "" where none came out."""
        captions = self._generate(images, self._decoding)
        for at, retry in product(range(len(images)), self._retries):
            if not captions[at]:
                captions[at] = self._generate(images[at : at + 1], self._decoding | retry)[0]
        return captions

    def _generate(self, images: UInt8[Tensor, "b 3 h w"], decoding: dict[str, Any]) -> list[str]:
        pixels, text = list(images.to(self._device)), [self._prompt] * len(images)  # no padding
        inputs = self._processor(pixels, text, return_tensors="pt").to(self._device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._dtype)
        with torch.random.fork_rng():  # sampling draws from the global state
            torch.manual_seed(SEED)
            written = self._model.generate(**inputs, **decoding)  # (b, tokens)
        given = inputs["input_ids"]
        if torch.equal(written[:, : given.shape[1]], given):  # decoders repeat image and prompt
            written = written[:, given.shape[1] :]
        texts = self._processor.batch_decode(written, skip_special_tokens=True)
        lines = [" ".join(text.split()) for text in texts]
        return [line if any(map(str.isalnum, line)) else "" for line in lines]

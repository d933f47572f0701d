"""BLIP-2 (Li et al., ICML 2023) as the captioner: what the paper uses (section 1)."""

from typing import Any

import torch
import transformers
from jaxtyping import UInt8
from torch import Tensor

from vecaf_lib.captions import blip2_files
from vecaf_lib.captions._types import Count, Positive, Text, Tokens
from vecaf_lib.captions.blip2_load import load
from vecaf_lib.captions.captioner import Captioner
from vecaf_lib.errors import BadInput

LONGER = 5  # tokens at least, when a caption came out empty
RETRY = {"do_sample": True, "num_beams": 1, "top_p": 0.9, "seed": 0}  # when it did so again


class Blip2Captioner(Captioner):
    """Captions by a BLIP-2 model: float16 on a GPU, float32 on a CPU.

    A caption without a letter or digit counts as empty. It is decoded again, alone, first with at
    least five tokens, then by sampling from a fixed seed; if nothing helps, "" is returned and
    ``when_empty`` is the text to use.

    Args:
        model: the hub's name of the model.
        revision: branch, tag or commit on the hub; None is its main branch.
        weights: ``hub`` (the local cache; absent, the network unless HF_HUB_OFFLINE=1), or the path
            of a folder as ``save_pretrained`` writes it.
        prompt: what the caption continues, such as "a photo of"; not a part of the caption.
        num_beams: of the beam search; 1 is greedy decoding.
        max_new_tokens: at most so many tokens a caption.
        min_new_tokens: at least so many.
        repetition_penalty: above 1 makes repeated words less likely.
        length_penalty: above 0 favours long captions in beam search.
        when_empty: the caption of images for which none comes out.
        device: where it runs.

    Raises:
        BadInput: the checkpoint is absent, damaged or no BLIP-2, or the options contradict.
    """

    def __init__(
        self,
        *,
        model: Text = "Salesforce/blip2-opt-2.7b",
        revision: str | None = None,
        weights: Text = "hub",
        prompt: str = "",
        num_beams: Count = 5,
        max_new_tokens: Count = 30,
        min_new_tokens: Tokens = 1,
        repetition_penalty: Positive = 1.0,
        length_penalty: float = 1.0,
        when_empty: Text = "a picture",
        device: str | torch.device = "cpu",
    ) -> None:
        if min_new_tokens > max_new_tokens:
            raise BadInput(
                f"captions.options.min_new_tokens is {min_new_tokens}; it must be at most "
                f"max_new_tokens, which is {max_new_tokens}."
            )
        folder = blip2_files.checkpoint(model, revision, weights)
        self._device = torch.device(device)
        self._dtype = torch.float16 if self._device.type == "cuda" else torch.float32
        self._processor, self._model = load(folder, dtype=self._dtype, device=self._device)
        self._prompt, self.when_empty = prompt, when_empty
        self._decoding: dict[str, Any] = {
            "do_sample": False,
            "num_beams": num_beams,
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": min_new_tokens,
            "repetition_penalty": repetition_penalty,
            "length_penalty": length_penalty,
        }
        self._record = {
            "captioner": "blip2",
            "model": model if weights == "hub" else folder.resolve().name,
            "revision": blip2_files.identity(folder, weights),
            "prompt": prompt,
            "decoding": self._decoding,
            "retries": [{"min_new_tokens": LONGER}, RETRY],
            "when_empty": when_empty,
            "precision": str(self._dtype).removeprefix("torch."),
            "versions": {
                "torch": torch.__version__.split("+")[0],
                "transformers": transformers.__version__,
            },
        }

    def record(self) -> dict[str, Any]:
        """Model, commit or checksum, prompt, decoding, precision and libraries."""
        return self._record

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """One caption an image, [b]; "" where none came out."""
        captions = self._generate(images, self._decoding)
        return [caption or self._again(images[at : at + 1]) for at, caption in enumerate(captions)]

    def _again(self, image: UInt8[Tensor, "1 3 h w"]) -> str:
        tokens = self._decoding["max_new_tokens"]
        longer = max(min(LONGER, tokens), self._decoding["min_new_tokens"])
        (caption,) = self._generate(image, self._decoding | {"min_new_tokens": longer})
        if caption:
            return caption
        sampling = {name: value for name, value in RETRY.items() if name != "seed"}
        cuda = range(torch.cuda.device_count() if self._device.type == "cuda" else 0)
        with torch.random.fork_rng(devices=cuda):  # generate() draws from the global state
            torch.manual_seed(RETRY["seed"])
            sampled = self._decoding | {"min_new_tokens": longer, "length_penalty": None}
            (caption,) = self._generate(image, sampled | sampling)
        return caption

    def _generate(self, images: UInt8[Tensor, "b 3 h w"], decoding: dict[str, Any]) -> list[str]:
        inputs = self._processor(  # prompts are equal, so that no token is padding
            images=list(images.to(self._device)),
            text=[self._prompt] * len(images),
            return_tensors="pt",
        ).to(self._device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self._dtype)
        written = self._model.generate(**inputs, **decoding)  # (b, tokens)
        given = inputs["input_ids"]
        if torch.equal(written[:, : given.shape[1]], given):  # decoders repeat image and prompt
            written = written[:, given.shape[1] :]
        texts = self._processor.batch_decode(written, skip_special_tokens=True)
        return [_tidy(text) for text in texts]


def _tidy(text: str) -> str:
    """On one line, or "" if there is not one letter or digit."""
    text = " ".join(text.split())
    return text if any(character.isalnum() for character in text) else ""

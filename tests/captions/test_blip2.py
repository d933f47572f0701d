"""A tiny BLIP-2 that really generates, loaded by the code that loads the large one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor

from vecaf_lib.captions import caption_all, locate, make
from vecaf_lib.captions.blip2 import SAMPLING, Blip2Captioner
from vecaf_lib.data.images import ImageSet
from vecaf_lib.errors import BadInput

# isort: split
from huggingface_hub import constants  # after vecaf_lib, which makes torchvision importable
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
)

WORDS = "a the photo of cat dog plane red blue green sky grass small large bright dark round on"
PAD, START, UNKNOWN, END = range(4)
IMAGE = 4 + len(WORDS.split())  # the token that stands for a part of the image
IMAGE_TOKENS = 4


def tokenizer() -> Any:
    names = ["<pad>", "</s>", "<unk>", "\n", *WORDS.split()]
    words = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", START)]
    )
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", **special)


def save_tiny(folder: Path) -> None:
    """About 120,000 random weights, wide enough apart that images get different captions."""
    images = BlipImageProcessor(size={"height": 28, "width": 28})
    processor = Blip2Processor(images, tokenizer(), num_query_tokens=IMAGE_TOKENS)
    words = len(processor.tokenizer)
    shape = {"hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}
    wide = shape | {"intermediate_size": 80, "initializer_range": 0.3}
    text = shape | {"vocab_size": words, "ffn_dim": 80, "max_position_embeddings": 64}
    text |= {"word_embed_proj_dim": 40, "init_std": 0.3}
    text |= {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}  # a line ends it
    config = Blip2Config(
        vision_config=Blip2VisionConfig(**wide, image_size=28, patch_size=14).to_dict(),
        qformer_config=Blip2QFormerConfig(
            **wide, vocab_size=words, encoder_hidden_size=40
        ).to_dict(),
        text_config=OPTConfig(**text).to_dict(),
        num_query_tokens=IMAGE_TOKENS,
        image_token_index=words - 1,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = Blip2ForConditionalGeneration(config)
        torch.nn.init.normal_(model.query_tokens)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip2") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(0, 256, (12, 3, 4, 4), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


def captioner(folder: Path, **options: Any) -> Blip2Captioner:
    return Blip2Captioner(weights=str(folder), **options)


@pytest.mark.parametrize("beams", [1, 3])
def test_it_writes_what_the_model_itself_generates(tiny: Path, images: Tensor, beams: int) -> None:
    captions = captioner(tiny, prompt="a photo of", num_beams=beams, max_new_tokens=9)(images)
    processor = Blip2Processor.from_pretrained(tiny)
    model = Blip2ForConditionalGeneration.from_pretrained(tiny).eval()
    for image, caption in zip(images, captions, strict=True):
        inputs = processor(images=image, text="a photo of", return_tensors="pt")
        written = model.generate(
            **inputs, num_beams=beams, max_new_tokens=9, min_new_tokens=1, do_sample=False
        )
        new = written[0, inputs["input_ids"].shape[1] :].tolist()
        words = [processor.tokenizer.decode([token]) for token in new if END < token < IMAGE]
        assert caption == " ".join(words)  # without the prompt, image and end tokens


def test_captions_differ_by_image_prompt_and_decoding(tiny: Path, images: Tensor) -> None:
    plain = captioner(tiny)
    captions, record = plain(images), plain.record
    assert len(set(captions)) == len(images)
    assert set(" ".join(captions).split()) <= set(WORDS.split())
    assert captions == [plain(image[None])[0] for image in images]
    assert record == json.loads(json.dumps(record))
    assert (record["model"], record["precision"]) == ("tiny", "float32")
    assert record["revision"].startswith("sha256:")
    changes = {"prompt": "a small dog", "num_beams": 1, "max_new_tokens": 3, "min_new_tokens": 29}
    changes |= {"repetition_penalty": 5.0, "length_penalty": -3.0}
    for name, value in changes.items():
        other = captioner(tiny, **{name: value})
        assert other.record != record
        assert other(images) != captions, name


def test_decoding_does_as_its_options_say(tiny: Path, images: Tensor) -> None:
    def words(**options: Any) -> list[list[str]]:
        return [text.split() for text in captioner(tiny, num_beams=1, **options)(images)]

    assert min(map(len, words(min_new_tokens=20, max_new_tokens=20))) > 5
    repeats = [len(line) - len({*line}) for line in words(max_new_tokens=12)]
    fewer = [len(line) - len({*line}) for line in words(max_new_tokens=12, repetition_penalty=9.0)]
    assert sum(fewer) < sum(repeats)
    with pytest.raises(BadInput, match=r"options\.min_new_tokens is 9; give at most 8"):
        captioner(tiny, min_new_tokens=9, max_new_tokens=8)
    for name, value in {"min_new_tokens": -1, "repetition_penalty": 0, "when_empty": ""}.items():
        with pytest.raises(BadInput, match=rf"^captions\.options\.{name} is "):
            make("blip2", pool_images=images, options={name: value}, device="cpu")


def biased(tiny: Path, folder: Path, tokens: list[int]) -> Path:
    """A copy that all but always writes one of these tokens.

    The last layer norm's bias is large along one direction, which the tokens' embeddings (also
    the output weights) have and the others lack.
    """
    shutil.copytree(tiny, folder)
    tensors = load_file(folder / "model.safetensors")
    embeddings = next(name for name in tensors if name.endswith("decoder.embed_tokens.weight"))
    bias = next(name for name in tensors if name.endswith("decoder.final_layer_norm.bias"))
    tensors[bias][0] = 100.0
    tensors[embeddings][:, 0] = 0.0
    tensors[embeddings][tokens, 0] = 1.0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_an_empty_caption_is_decoded_again_and_one_that_stays_empty_filled(
    tiny: Path, tmp_path: Path, images: Tensor
) -> None:
    mute = captioner(biased(tiny, tmp_path / "mute", [END]), num_beams=1)
    silent = mute._decoding | {"min_new_tokens": 0}  # all but always ends its caption at once
    assert mute._generate(images[:2], silent) == ["", ""]
    mute._decoding = silent
    captions = mute(images[:2])
    assert all(len(caption.split()) >= 5 for caption in captions)
    mute._retries = [SAMPLING, SAMPLING]  # the last resort, from a fixed seed
    sampled = mute(images[:2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert mute(images[:2]) == sampled != captions
    blank = captioner(
        biased(tiny, tmp_path / "blank", [PAD, START, END]), when_empty="a thing", num_beams=1
    )
    assert blank(images[:3]) == ["", "", ""]
    pool = ImageSet(images[:3], torch.zeros(3, dtype=torch.int64), ("a", "b", "c"), ("x",))
    with pytest.warns(UserWarning, match=r"3 images got no caption .*: a, b, c\.$"):
        captions = caption_all(
            blank, pool, tmp_path / "parts", batch_size=2, identity={}, bar=lambda count: None
        )
    assert captions == ["a thing"] * 3


def test_from_the_hubs_local_cache(
    tiny: Path, tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    options = {"model": "someone/tiny-blip2"}
    absent = r"captions\.options\.\w+: .*someone/tiny-blip2"
    for fetch in (False, True):
        with pytest.raises(BadInput, match=absent):
            locate("blip2", options, fetch)
    with pytest.raises(BadInput, match=absent):
        make("blip2", pool_images=images, options=options, device="cpu")
    place, commit = tmp_path / "models--someone--tiny-blip2", "0123456789abcdef" * 2 + "01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    folder = Path(shutil.copytree(tiny, place / "snapshots" / commit))
    assert locate("blip2", options) == locate("blip2", options, fetch=True) == folder
    made = make("blip2", pool_images=images, options=options, device="cpu")
    assert made.record["model"] == "someone/tiny-blip2"
    assert made.record["revision"] == commit
    assert made(images[:3]) == captioner(tiny)(images[:3])
    (folder / "model.safetensors").unlink()  # a download that was broken off
    with pytest.raises(BadInput, match=absent):
        locate("blip2", options)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("tensor", "value"),
    [("qformer.layernorm.weight", None), ("language_projection.weight", torch.zeros(40, 8))],
    ids=["missing", "another shape"],
)
def test_tensors_that_do_not_fit_are_refused(copy: Path, tensor: str, value: Tensor | None) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors[tensor]
    tensors |= {} if value is None else {tensor: value}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"weights: \S*copy is no unchanged BLIP-2 checkpoint"):
        captioner(copy)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b"cut"),
        ("model.safetensors", None),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "bert"}'),
        ("processor_config.json", None),
    ],
    ids=["weights", "no weights", "config", "foreign", "no processor"],
)
def test_damaged_and_foreign_checkpoints(copy: Path, file: str, content: bytes | None) -> None:
    (copy / file).unlink()
    if content is None:
        with pytest.raises(BadInput, match=file):
            locate("blip2", {"weights": str(copy)})
    else:
        (copy / file).write_bytes(content)
    with pytest.raises(BadInput, match=r"captions\.options\.weights: .*copy is "):
        captioner(copy)


def test_checkpoints_that_leave_the_image_token_open(
    copy: Path, tiny: Path, images: Tensor
) -> None:
    for name, key in (("config", "image_token_index"), ("processor_config", "num_query_tokens")):
        path = copy / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: None}))
    assert captioner(copy)(images) == captioner(tiny)(images)
    assert captioner(copy).record["revision"] != captioner(tiny).record["revision"]

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

from vecaf_lib.captions import available, blip2_files, caption_all, download, make, read_captions
from vecaf_lib.captions.blip2 import Blip2Captioner
from vecaf_lib.captions.blip2_load import load
from vecaf_lib.datasets import ImageSet
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
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            **shape, intermediate_size=80, image_size=28, patch_size=14, initializer_range=0.3
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            **shape,
            vocab_size=words,
            intermediate_size=80,
            encoder_hidden_size=40,
            initializer_range=0.3,
        ).to_dict(),
        text_config=OPTConfig(
            **shape,
            vocab_size=words,
            ffn_dim=80,
            max_position_embeddings=64,
            word_embed_proj_dim=40,
            init_std=0.3,
            pad_token_id=PAD,
            bos_token_id=START,
            eos_token_id=END,  # as the real one's: a caption ends with its line
        ).to_dict(),
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


def test_captions_of_different_images_differ(tiny: Path, images: Tensor) -> None:
    size = sum(tensor.numel() for tensor in load_file(tiny / "model.safetensors").values())
    assert 80_000 < size < 160_000
    captions = captioner(tiny)(images)
    assert len(set(captions)) == len(images)
    for caption in captions:
        assert set(caption.split()) <= set(WORDS.split())
        assert len(caption.split()) <= 30


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


def test_a_batch_is_captioned_as_its_images_are(tiny: Path, images: Tensor) -> None:
    captions = captioner(tiny, prompt="the", num_beams=2)
    assert captions(images) == [captions(image[None])[0] for image in images]


def test_prompt_and_decoding_change_captions_and_record(tiny: Path, images: Tensor) -> None:
    plain = captioner(tiny)
    record = plain.record()
    assert record == json.loads(json.dumps(record))
    assert record["model"] == "tiny"
    assert record["revision"].startswith("sha256:")
    assert record["precision"] == "float32"
    assert record["versions"]["transformers"]
    for options in (
        {"prompt": "a small dog"},
        {"num_beams": 1},
        {"max_new_tokens": 3},
        {"repetition_penalty": 5.0},
    ):
        other = captioner(tiny, **options)
        assert other.record() != record
        assert other(images) != plain(images), options


def test_half_precision(tiny: Path, images: Tensor) -> None:
    processor, model = load(tiny, dtype=torch.float16, device=torch.device("cpu"))
    inputs = processor(images=list(images), text=[""] * len(images), return_tensors="pt")
    inputs["pixel_values"] = inputs["pixel_values"].half()
    assert model.language_model.dtype == torch.float16
    written = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert written.shape[0] == len(images)


@pytest.fixture
def mute(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model with a strong taste for ending its caption at once."""
    return biased(tiny, tmp_path / "mute", [END])


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


def test_an_empty_caption_is_decoded_again(mute: Path, images: Tensor) -> None:
    greedy = captioner(mute, min_new_tokens=0, num_beams=1)
    assert greedy._generate(images[:2], greedy._decoding) == ["", ""]
    captions = greedy(images[:2])
    assert all(len(caption.split()) >= 5 for caption in captions)
    assert captions == [greedy(image[None])[0] for image in images[:2]]  # alone or together


def test_sampling_is_the_last_resort_and_from_a_fixed_seed(
    tiny: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = captioner(tiny, max_new_tokens=6)
    real, seen = captions._generate, []

    def silent_unless_sampling(images: Tensor, decoding: dict[str, Any]) -> list[str]:
        seen.append(decoding)
        return real(images, decoding) if decoding["do_sample"] else [""] * len(images)

    monkeypatch.setattr(captions, "_generate", silent_unless_sampling)
    texts = captions(images[:2])
    assert all(texts)
    assert [step["min_new_tokens"] for step in seen] == [1, 5, 5, 5, 5]
    assert [step["num_beams"] for step in seen] == [5, 5, 1, 5, 1]
    assert captions(images[1:2]) == texts[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert captions(images[:2]) == texts


def test_what_stays_empty_is_filled_and_reported(
    tiny: Path, tmp_path: Path, images: Tensor
) -> None:
    blank = captioner(biased(tiny, tmp_path / "blank", [PAD, START, END]), when_empty="an image")
    assert blank(images[:3]) == ["", "", ""]
    pool = ImageSet(images[:3], torch.zeros(3, dtype=torch.int64), ("a", "b", "c"), ("x",))
    path = tmp_path / "captions.jsonl"
    with pytest.warns(UserWarning, match=r"3 images got no caption .*: a, b, c\.$"):
        captions = caption_all(blank, pool, path, batch_size=2)
    assert captions == read_captions(path, pool.ids) == ["an image"] * 3
    assert path.read_text().count('"empty": true') == 3


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's local cache, empty, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cache_tiny(tiny: Path, cache: Path, commit: str) -> Path:
    place = cache / "models--someone--tiny-blip2"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(tiny, place / "snapshots" / commit)
    return place / "snapshots" / commit


def test_from_the_hubs_local_cache(tiny: Path, cache: Path, images: Tensor) -> None:
    options = {"model": "someone/tiny-blip2"}
    missing = (
        "captions.options.model: someone/tiny-blip2 is not in the local cache; `make fetch "
        "PROFILE=...` downloads it where there is a network, or give the path of a local copy as "
        "captions.options.weights."
    )
    assert available("blip2", options) == missing
    with pytest.raises(BadInput) as raised:
        make("blip2", pool_images=images, options=options)
    assert str(raised.value) == missing
    with pytest.raises(BadInput, match="is not in the local cache"):
        download("blip2", options)
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = cache_tiny(tiny, cache, commit)
    assert available("blip2", options) is None
    assert download("blip2", options) == folder
    found = make("blip2", pool_images=images, options=options)
    assert found.record()["model"] == "someone/tiny-blip2"
    assert found.record()["revision"] == commit
    assert found(images[:3]) == captioner(tiny)(images[:3])
    absent = available("blip2", {**options, "revision": "f" * 40})
    assert absent is not None
    assert f"at revision {'f' * 40} is not in the local cache" in absent
    (folder / "model.safetensors").unlink()  # a download that was broken off
    assert available("blip2", options) == missing


def test_a_name_the_hub_cannot_have(cache: Path) -> None:
    with pytest.raises(BadInput, match=r"captions.options.model: 'a//b c' is no name on the hub"):
        blip2_files.cached("a//b c", None)


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def change(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))


def test_missing_tensors_are_refused(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    gone = sorted(name for name in tensors if "qformer" in name)[:2]
    for name in gone:
        del tensors[name]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"copy lacks 2 of the model's tensors \(the first: qformer"):
        captioner(copy)


def test_tensors_of_another_shape_are_refused(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["language_projection.weight"] = torch.zeros(40, 8)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"another shape for 1 of .*language_projection\.weight"):
        captioner(copy)


def test_surplus_tensors_are_told(copy: Path, tiny: Path, images: Tensor) -> None:
    tensors = load_file(copy / "model.safetensors") | {"itm_head.weight": torch.zeros(2, 2)}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"1 tensors that the model does not use .*itm_head"):
        other = captioner(copy)
    assert other(images) == captioner(tiny)(images)
    assert other.record()["revision"] != captioner(tiny).record()["revision"]


@pytest.mark.parametrize(
    ("absent", "sentence"),
    [
        ("config.json", r"copy has no config\.json; copy it whole"),
        ("processor_config.json", r"has no preprocessor_config\.json or processor_config\.json"),
        ("tokenizer.json", r"has no tokenizer\.json or"),
        ("model.safetensors", r"has no model\.safetensors"),
    ],
)
def test_absent_files(copy: Path, absent: str, sentence: str) -> None:
    (copy / absent).unlink()
    with pytest.raises(BadInput, match=sentence):
        captioner(copy)
    assert available("blip2", {"weights": str(copy)}) is not None


def test_an_absent_part_of_the_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    with pytest.raises(BadInput, match=r"has no model-00002-of-00002\.safetensors"):
        captioner(copy)
    index.write_text("{")
    with pytest.raises(BadInput, match=r"has no readable model\.safetensors\.index\.json"):
        captioner(copy)


def test_damaged_and_foreign_checkpoints(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere is no folder; give 'hub' or the folder"):
        captioner(tmp_path / "nowhere")
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[:1000])
    with pytest.raises(BadInput, match="copy is not a readable BLIP-2 checkpoint") as raised:
        captioner(copy)
    assert "\n" not in str(raised.value)
    (copy / "model.safetensors").write_bytes(content)
    change(copy, image_token_index=5)
    with pytest.raises(BadInput, match="image token 5 in its config and 22 in its tokenizer"):
        captioner(copy)
    change(copy, model_type="bert")
    with pytest.raises(BadInput, match="holds a model of type 'bert'; it must be 'blip-2'"):
        captioner(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(BadInput, match=r"config\.json is not readable"):
        captioner(copy)


def test_checkpoints_that_leave_the_image_token_open(
    copy: Path, tiny: Path, images: Tensor
) -> None:
    change(copy, image_token_index=None)
    processor = json.loads((copy / "processor_config.json").read_text())
    processor["num_query_tokens"] = None
    (copy / "processor_config.json").write_text(json.dumps(processor))
    assert captioner(copy)(images) == captioner(tiny)(images)


def test_options_that_contradict(tiny: Path) -> None:
    with pytest.raises(BadInput, match="min_new_tokens is 9; it must be at most max_new_tokens"):
        captioner(tiny, min_new_tokens=9, max_new_tokens=4)

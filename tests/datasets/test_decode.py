"""Every kind of image file gives the pixels it should, and each damage its sentence."""

import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image
from torch import Tensor

import vecaf_lib.encoders  # noqa: F401 (before timm)
from vecaf_lib.datasets._decode import decode
from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.errors import BadInput

CAT = Image.fromarray(skimage.data.chelsea())  # 451 x 300 px
ORIENTATION = 0x0112


def pixels(path: Path, size: int = 8) -> Tensor:
    image = decode(path, size)
    assert image.shape == (3, size, size)
    assert image.dtype == torch.uint8
    return image


def ramp(top: int, dtype: type) -> np.ndarray:
    """8x8 from 0 to ``top`` in equal steps."""
    return np.linspace(0, top, 64).round().reshape(8, 8).astype(dtype)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_modes_keep_their_colours(tmp_path: Path, mode: str) -> None:
    image = CAT.resize((64, 64)).convert(mode)
    path = tmp_path / ("image.tif" if mode in {"CMYK", "YCbCr"} else "image.png")
    image.save(path)
    expected = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(pixels(path, 64).permute(1, 2, 0), expected, atol=2)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    CAT.resize((64, 64)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    mean = pixels(tmp_path / "cmyk.jpg", 64).float().mean((1, 2))
    expected = np.asarray(CAT.resize((64, 64))).mean((0, 1))
    np.testing.assert_allclose(mean, expected, atol=3)  # not its negative


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(ramp(65535, np.uint16)).save(tmp_path / f"deep.{suffix}")
    for channel in pixels(tmp_path / f"deep.{suffix}"):
        np.testing.assert_allclose(channel, ramp(255, np.uint8), atol=1)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (ramp(1_000_000, np.int32), r"pixels from 0 to 1000000, more than 16 bits"),
        (ramp(1, np.float32), r"floating-point pixels, whose range is not known"),
    ],
)
def test_unknown_ranges_are_refused(tmp_path: Path, values: np.ndarray, sentence: str) -> None:
    Image.fromarray(values).save(tmp_path / "deep.tif")
    with pytest.raises(BadInput, match=sentence):
        pixels(tmp_path / "deep.tif")


def test_transparency_becomes_white(tmp_path: Path) -> None:
    half = np.zeros((8, 8, 4), np.uint8)
    half[:, :4] = (200, 100, 0, 255)  # the right half is black, but not to be seen
    Image.fromarray(half).save(tmp_path / "alpha.png")
    palette = Image.fromarray(ramp(3, np.uint8)).convert("P")
    palette.save(tmp_path / "palette.png", transparency=0)
    shown = pixels(tmp_path / "alpha.png")
    assert shown[:, 0, 0].tolist() == [200, 100, 0]
    assert shown[:, 0, 7].tolist() == [255, 255, 255]
    assert pixels(tmp_path / "palette.png")[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels(tmp_path / "palette.png")[:, 7, 7].tolist() == [3, 3, 3]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:3, :2] = (255, 0, 0)  # a mark in the upper left, taller than wide
    stored = {  # how a camera held that way stores the scene (EXIF 2.3, tag 274)
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "turned.png").permute(1, 2, 0), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_no_harm(tmp_path: Path) -> None:
    CAT.save(tmp_path / "cat.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    CAT.save(tmp_path / "plain.jpg")
    assert torch.equal(pixels(tmp_path / "cat.jpg"), pixels(tmp_path / "plain.jpg"))


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"film.{suffix}"
    red.save(path, save_all=True, append_images=[blue], duration=100, **options)
    assert pixels(path)[:, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize(("size", "crop"), [(64, 1.0), (224, 0.875), (224, 0.9), (300, 1.0)])
@pytest.mark.parametrize("turn", [0, 90])
def test_resizing_agrees_with_timm(tmp_path: Path, size: int, crop: float, turn: int) -> None:
    from timm.data import create_transform

    cat = CAT.rotate(turn, expand=True)
    cat.save(tmp_path / "cat.png")
    transform = create_transform(
        size, interpolation="bicubic", crop_pct=crop, mean=(0, 0, 0), std=(1, 1, 1)
    )
    expected = (transform(cat) * 255).round()
    difference = (decode(tmp_path / "cat.png", size, crop=crop).float() - expected).abs()
    assert difference.max() <= 2
    assert difference.mean() < 0.3


def test_centre_without_resizing(tmp_path: Path) -> None:
    CAT.save(tmp_path / "cat.png")
    centre = decode(tmp_path / "cat.png", 224, resize=False).permute(1, 2, 0)
    np.testing.assert_array_equal(centre, np.asarray(CAT)[38:262, 114:338])
    with pytest.raises(BadInput, match="451x300 px, fewer than the 301 px"):
        decode(tmp_path / "cat.png", 301, resize=False)


def test_a_long_strip_takes_no_memory(tmp_path: Path) -> None:
    Image.new("RGB", (1, 60000), "red").save(tmp_path / "strip.png")
    # as a whole it would become 224 x 13,440,000 px
    assert (decode(tmp_path / "strip.png", 224)[0] == 255).all()


def test_all_damaged_files_are_listed_at_once(tmp_path: Path) -> None:
    stream = io.BytesIO()
    CAT.save(stream, "jpeg")
    whole = stream.getvalue()
    contents = {
        "0.jpg": whole,
        "1.jpg": whole[: len(whole) // 2],
        "2.jpg": b"",
        "3.jpg": b"<html>not found</html>",
        "4.jpg": whole,
        "5.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    images = FileImages([tmp_path / name for name in [*contents, "6.jpg"]], 8)
    assert images[[0, 4]].shape == (2, 3, 8, 8)
    with pytest.raises(BadInput) as raised:
        images[1]
    sentence = str(raised.value)
    assert sentence.startswith("5 of 7 image files cannot be used: ")
    for name, reason in {
        "1.jpg": "image file is truncated",
        "2.jpg": "is no image",
        "3.jpg": "is no image",
        "5.png": "is no image",
        "6.jpg": "is missing",
    }.items():
        assert f"{tmp_path / name} ({reason}" in sentence
    assert "4.jpg" not in sentence


def test_a_long_list_of_damaged_files_is_counted(tmp_path: Path) -> None:
    images = FileImages([tmp_path / f"{number:02d}.jpg" for number in range(23)], 8)
    with pytest.raises(BadInput, match=r"23 of 23 .*19\.jpg \(is missing\), and 3 more; replace"):
        list(images.split(4))


@pytest.mark.parametrize(
    ("size", "crop", "sentence"),
    [(0, 1.0, "image_size is 0 px"), (8, 0.0, "crop is 0;"), (8, 1.5, r"crop is 1\.5;")],
)
def test_impossible_sizes(size: int, crop: float, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        FileImages([], size, crop=crop)

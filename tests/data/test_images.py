"""Every kind of file gives its pixels, each damage its reason; lazy images are as a tensor."""

import errno
import io
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import vecaf_lib.models  # noqa: F401 (before timm)
from vecaf_lib.data.images import (
    FileImages,
    ImageSet,
    LazyImages,
    ResizedImages,
    ahead,
    decode,
    in_memory,
)
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


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(ramp(65535, np.uint16)).save(tmp_path / f"deep.{suffix}")
    for channel in pixels(tmp_path / f"deep.{suffix}"):
        np.testing.assert_allclose(channel, ramp(255, np.uint8), atol=1)


def test_unknown_ranges_are_refused(tmp_path: Path) -> None:
    for values in (ramp(1_000_000, np.int32), ramp(1, np.float32)):
        Image.fromarray(values).save(tmp_path / "deep.tif")
        with pytest.raises(BadInput, match=r"floating-point .* 16 bits"):
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


def test_exif_orientation(tmp_path: Path) -> None:
    upright = np.zeros((8, 8, 3), np.uint8)
    upright[:3, :2] = (255, 0, 0)  # a mark in the upper left, taller than wide
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # how a camera held that way stores the scene (EXIF 2.3, tag 274)
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "turned.png").permute(1, 2, 0), upright)


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
    with pytest.raises(BadInput, match="451x300 px, fewer than 301 px"):
        decode(tmp_path / "cat.png", 301, resize=False)


def test_a_long_strip_takes_no_memory(tmp_path: Path) -> None:
    Image.new("RGB", (1, 60000), "red").save(tmp_path / "strip.png")  # 224 x 13,440,000 px
    assert (decode(tmp_path / "strip.png", 224)[0] == 255).all()


def test_all_damaged_files_are_listed_at_once(tmp_path: Path) -> None:
    stream = io.BytesIO()
    CAT.save(stream, "jpeg")
    whole = stream.getvalue()
    contents = {
        "0.jpg": whole,
        "1.jpg": whole[: len(whole) // 2],
        "2.jpg": b"",
        "4.jpg": whole,
        "5.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    images = FileImages([tmp_path / name for name in [*contents, "6.jpg"]], 8)
    assert images[[0, 3]].shape == (2, 3, 8, 8)
    with pytest.raises(BadInput) as raised:
        images[1]
    sentence = str(raised.value)
    assert sentence.startswith("4 of 6 image files cannot be used: ")
    for name, reason in {
        "1.jpg": "image file is truncated",
        "2.jpg": "cannot identify",
        "5.png": "cannot identify",
        "6.jpg": "[Errno 2] No such file",
    }.items():
        assert f"{tmp_path / name} ({reason}" in sentence
    assert "4.jpg" not in sentence


COUNT, SIZE = 7, 8


def noise(count: int, size: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=draw)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    for number, image in enumerate(noise(COUNT, SIZE)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module", params=["files", "resized"])
def pair(request: pytest.FixtureRequest, folder: Path) -> tuple[LazyImages, Tensor]:
    """Lazy images, and the tensor that they stand for."""
    if request.param == "resized":
        return ResizedImages(noise(COUNT, SIZE), SIZE), noise(COUNT, SIZE)
    paths = [folder / f"{number}.png" for number in range(COUNT)]
    return FileImages(paths, SIZE), noise(COUNT, SIZE)


INDICES = st.one_of(
    st.integers(-COUNT, COUNT - 1),
    st.slices(COUNT).filter(lambda s: s.step is None or s.step > 0),
    st.lists(st.integers(-COUNT, COUNT - 1)),
    st.lists(st.integers(-COUNT, COUNT - 1)).map(lambda at: torch.tensor(at, dtype=torch.int64)),
    st.lists(st.booleans(), min_size=COUNT, max_size=COUNT).map(torch.tensor),
)


@given(at=INDICES)
def test_indexing_agrees_with_the_tensor(pair: tuple[LazyImages, Tensor], at: object) -> None:
    lazy, tensor = pair
    assert torch.equal(lazy[at], tensor[at])
    if not isinstance(at, int):
        taken = lazy.take(at)
        assert taken.shape == tensor[at].shape
        assert torch.equal(taken[:], tensor[at])


def test_a_position_outside_is_refused_and_ends_iteration(pair: tuple[LazyImages, Tensor]) -> None:
    lazy, tensor = pair
    for at in (COUNT, -COUNT - 1, [0, COUNT]):
        with pytest.raises(IndexError):
            lazy[at]
    assert len(lazy) == len(list(lazy)) == COUNT
    assert torch.equal(pickle.loads(pickle.dumps(lazy.take([3, 1])))[:], tensor[[3, 1]])
    names = tuple(str(number) for number in range(COUNT))
    subset = ImageSet(lazy, torch.arange(COUNT), names, names).subset([4, 1])
    assert torch.equal(subset.images[:], tensor[[4, 1]])
    assert (subset.ids, subset.labels.tolist()) == (("4", "1"), [4, 1])


def test_enlarging_agrees_with_pillow() -> None:
    native = noise(5, 8)
    large = ResizedImages(native, 20)[:]
    assert large.shape == (5, 3, 20, 20)
    for source, image in zip(native.flatten(0, 1), large.flatten(0, 1), strict=True):
        # in float: Pillow's 8-bit path also clips between its two passes
        other = Image.fromarray(source.numpy().astype(np.float32))
        expected = np.asarray(other.resize((20, 20), Image.Resampling.BICUBIC)).clip(0, 255)
        np.testing.assert_allclose(image, expected, atol=0.51)  # half a level: rounding


def test_ahead_keeps_order_and_fetches_no_more_than_asked() -> None:
    fetched: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            fetched.append(number)
            yield number

    items = ahead(numbers(), depth=3)
    assert [next(items) for _ in range(5)] == [0, 1, 2, 3, 4]
    deadline = time.monotonic() + 5
    while len(fetched) < 8 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert fetched == list(range(8))  # the five, and three ahead
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_ahead_passes_on_an_exception_at_its_turn() -> None:
    items = ahead(1 // number for number in (1, 1, 0, 1))
    assert [next(items), next(items)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(found):
        Image.new("RGB", (20, 16), (40 * number, 9, 200)).save(path)
    return found


def test_the_copy_holds_the_pixels_and_is_made_once(paths: list[Path], tmp_path: Path) -> None:
    images, folder = FileImages(paths, 16), tmp_path / "decoded"
    first = in_memory(images, folder)
    assert isinstance(first, torch.Tensor)
    assert torch.equal(first, images[:])
    (copy,) = list(folder.iterdir())
    made = copy.stat().st_mtime_ns
    assert torch.equal(in_memory(FileImages(paths, 16), folder), first)
    assert copy.stat().st_mtime_ns == made
    first[:] = 0  # in memory alone
    assert torch.equal(in_memory(images, folder), images[:])


def test_other_files_or_sizes_have_another_copy(paths: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "decoded"
    variants = [FileImages(paths, 16), FileImages(paths, 8), FileImages(paths, 16, crop=0.5)]
    variants += [FileImages(paths[::-1], 16), variants[0].take([2, 3])]
    for count, images in enumerate(variants, 1):
        assert torch.equal(in_memory(images, folder), images[:])
        assert len(list(folder.iterdir())) == count
    Image.new("RGB", (20, 16), "white").save(paths[1])
    os.utime(paths[1], ns=(1, 1))
    assert torch.equal(in_memory(variants[0], folder), variants[0][:])
    assert len(list(folder.iterdir())) == 6


def test_a_full_disk_leaves_no_half_copy(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: io.BufferedWriter, header: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    images, folder = FileImages(paths, 16), tmp_path / "decoded"
    assert torch.equal(in_memory(images, folder), images[:])
    assert list(folder.iterdir()) == []

"""Lazy images behave as the tensor they stand for, and are fetched ahead in order."""

import multiprocessing
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from vecaf_lib.datasets.file_images import FileImages
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.datasets.lazy import GIB, LazyImages, ResizedImages, ahead, in_memory

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
    assert lazy.shape == tensor.shape


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_split_agrees_with_the_tensor(pair: tuple[LazyImages, Tensor], size: int) -> None:
    lazy, tensor = pair
    parts = list(lazy.split(size))
    assert [len(part) for part in parts] == [len(part) for part in tensor.split(size)]
    assert torch.equal(torch.cat(parts), tensor)


def test_lazy_images_survive_pickling_and_a_fork(pair: tuple[LazyImages, Tensor]) -> None:
    lazy, tensor = pair
    assert torch.equal(lazy[:], tensor)  # the threads exist now; a fork does not copy them
    assert torch.equal(pickle.loads(pickle.dumps(lazy))[:], tensor)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(lazy[:].numpy().tolist()))
    child.start()
    try:
        assert receiver.poll(20), "the child hangs"
        np.testing.assert_array_equal(receiver.recv(), tensor)
    finally:
        child.kill()


def test_a_subset_stays_lazy(pair: tuple[LazyImages, Tensor]) -> None:
    lazy, tensor = pair
    names = tuple(str(number) for number in range(COUNT))
    whole = ImageSet(lazy, torch.arange(COUNT), names, names)
    subset = whole.subset([4, 1])
    assert isinstance(subset.images, LazyImages)
    assert torch.equal(subset.images[:], tensor[[4, 1]])
    assert subset.ids == ("4", "1")
    assert subset.labels.tolist() == [4, 1]


def test_enlarging_agrees_with_pillow() -> None:
    native = noise(5, 8)
    large = ResizedImages(native, 20)[:]
    assert large.shape == (5, 3, 20, 20)
    for source, image in zip(native.flatten(0, 1), large.flatten(0, 1), strict=True):
        # in float: Pillow's 8-bit path also clips between its two passes
        other = Image.fromarray(source.numpy().astype(np.float32))
        expected = np.asarray(other.resize((20, 20), Image.Resampling.BICUBIC)).clip(0, 255)
        np.testing.assert_allclose(image, expected, atol=0.51)  # half a level: rounding


def test_small_sets_are_taken_into_memory(pair: tuple[LazyImages, Tensor]) -> None:
    lazy, tensor = pair
    need = tensor.numel() / GIB
    seen: list[list[int]] = []
    whole = in_memory(lazy, need, bar=lambda starts: seen.append(list(starts)) or starts)
    assert isinstance(whole, Tensor)
    assert torch.equal(whole, tensor)
    assert seen == [[0]]
    assert in_memory(lazy, need * 0.99) is lazy


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


def test_ahead_works_in_the_background() -> None:
    main = threading.get_ident()
    assert main not in set(ahead(iter(threading.get_ident, None).__next__() for _ in range(3)))


def test_ahead_passes_on_an_exception_at_its_turn() -> None:
    items = ahead(1 // number for number in (1, 1, 0, 1))
    assert [next(items), next(items)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(items)
    assert list(ahead([])) == []

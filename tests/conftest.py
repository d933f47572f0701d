"""Shapes and types checked at run time, one thread, and a global random state nobody may touch."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import sklearn.datasets  # noqa: F401 (draws from the global random state when first imported)
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):  # before anything imports the libraries
    os.environ[variable] = "1"
with patch("random.getrandbits", random.Random(0).getrandbits):
    # beartype looks at one item of a list, drawn at random: give it a stream of its own, so that
    # it does not look as if vecaf_lib had touched the global one
    from beartype import beartype

    beartype(lambda items: None).__call__([])

LIBRARY = Path(__file__).resolve().parents[1] / "vecaf_lib"
# beartype does not take every text stream for TextIO, nor a whole ratio for a float
NO_TENSORS = {"cli", "pipeline", "results"}
CHECKED = {module.name for module in iter_modules([str(LIBRARY)])} - NO_TENSORS
install_import_hook(  # before anything imports vecaf_lib
    [f"vecaf_lib.{name}" for name in sorted(CHECKED)], "beartype.beartype"
)
settings.register_profile("same_every_time", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("same_every_time")
torch.set_num_threads(1)  # the last bits of a sum depend on it


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "global_random(why): a library used here draws from the global random state"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files go out before all others, so that the workers end together."""
    longest = ("test_by_hand", "test_readers_notebooks", "test_dvc")
    items.sort(key=lambda item: item.path.stem not in longest)


def random_states() -> dict[str, Any]:
    """The global random states, in a form that == compares."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 (watched, not used)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, keys.tobytes(), *rest),
        "random": random.getstate(),
    }


@pytest.fixture(autouse=True)
def _global_random_state_untouched(request: pytest.FixtureRequest) -> Iterator[None]:
    before = random_states()
    yield
    if request.node.get_closest_marker("global_random") is None:
        after = random_states()
        touched = [name for name in before if before[name] != after[name]]
        assert not touched, f"the global random state of {', '.join(touched)} was changed"

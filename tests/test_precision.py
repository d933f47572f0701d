"""What ``auto`` means, and that bfloat16 is what the context computes in."""

import pytest
import torch

from vecaf_lib.precision import autocast, resolve


@pytest.mark.parametrize(("native", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_asks_the_processor(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    assert resolve("cpu", "auto") == expected
    assert resolve("cuda", "auto") == "bfloat16"
    assert resolve("cpu", "bfloat16") == "bfloat16"
    assert resolve("cpu", "float32") == "float32"


def test_the_context() -> None:
    square = torch.ones(2, 2)
    with autocast("cpu", "bfloat16"):
        assert (square @ square).dtype == torch.bfloat16
    with autocast("cpu", "float32"):
        assert (square @ square).dtype == torch.float32

"""From the states of a caption's tokens to one vector, and the batches in which that is done."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

PAD = 0  # any token will do where the mask says that it is padding


def mean(states: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Average the states of the tokens that are not padding."""
    weights = real.unsqueeze(-1).to(states.dtype)  # (b, t, 1)
    return (states * weights).sum(1) / weights.sum(1)


def cls(states: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Take the state of the first token, BERT's [CLS]."""
    return states[:, 0]


def last(states: Float[Tensor, "b t d"], real: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Take the state of the last token that is not padding (padding is on the right)."""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, real.sum(1) - 1]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean, "cls": cls, "last": last}


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Split indices into batches of captions of like length, the longest first.

    Little padding is computed then, and memory that does not suffice shows in the first batch.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def padded(ids: Sequence[Sequence[int]]) -> tuple[Int64[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Pad token ids on the right; return them, and which of them are real."""
    lengths = torch.tensor([len(row) for row in ids])
    tokens = pad_sequence([torch.tensor(row) for row in ids], batch_first=True, padding_value=PAD)
    return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]  # (b, t), (b, t)

"""What a selector may know of the pool, and how a selector and its options are named."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn.functional import normalize

from vecaf_lib.errors import BadInput, did_you_mean
from vecaf_lib.options import schema_of

Record = dict[str, Any] | None  # receives a method's diagnostics


@dataclass(frozen=True)
class Pool:
    """The labelled pool D as the present model sees it; what a method does not need is absent."""

    size: int  # N
    embeddings: Float[Tensor, "n d"] | None = None  # of the images, e
    losses: Float[Tensor, " n"] | None = None  # L(f(x_i; w), y_i) >= 0, which tell of all labels
    predicted_losses: Float[Tensor, " n"] | None = None  # absent before the second loop
    images: Any = None
    excluded: Int64[Tensor, " x"] | None = None  # may not be chosen: sets that are kept
    labelled: Int64[Tensor, " k"] | None = None  # samples chosen in earlier loops, sorted
    labels: Int64[Tensor, " k"] | None = None  # class indices of ``labelled``, in that order
    all_labels: Int64[Tensor, " n"] | None = None  # class indices of the whole pool
    classifier: nn.Linear | None = None  # copy of the last layer of f(.; w), on the CPU
    probabilities: Float[Tensor, "n c"] | None = None  # of f(x_i; w); absent before the second loop

    def __post_init__(self) -> None:
        for name in ("embeddings", "losses", "predicted_losses", "probabilities"):
            if (values := getattr(self, name)) is None:
                continue
            if len(values) != self.size:
                raise BadInput(f"{name}: {len(values)} rows for a pool of {self.size} samples.")
            signed = name in ("embeddings", "predicted_losses")
            good = values.isfinite() if signed else values.isfinite() & (values >= 0)
            if bad := int((~good.reshape(self.size, -1).all(1)).sum()):
                raise BadInput(
                    f"{name}: {bad} of {self.size} samples are NaN, infinite or wrongly negative; "
                    "lower training.learning_rate or look at the images."
                )

    def need(self, name: str) -> Any:
        """The field ``name``, refused where it is absent."""
        if (values := getattr(self, name)) is None:
            raise BadInput(f"pool.{name} is absent, and this method of selection needs it.")
        return values

    def unit(self) -> Float[Tensor, "n d"]:
        """The embeddings, each of length 1."""
        return normalize(self.need("embeddings"), dim=1)

    def covered(self) -> Int64[Tensor, " x"]:
        """Indices of the samples that a chosen set need not cover again: the kept sets."""
        return torch.empty(0, dtype=torch.int64) if self.excluded is None else self.excluded

    def free(self) -> Bool[Tensor, " n"]:
        """Whether each sample may be chosen."""
        return torch.ones(self.size, dtype=torch.bool).index_fill_(0, self.covered(), False)

    def candidates(self) -> Int64[Tensor, " m"]:
        """Indices of the samples that may be chosen, sorted."""
        return self.free().nonzero().squeeze(1)

    def check_budget(self, budget: int) -> None:
        """Refuse a budget K of none, or of more than there are candidates."""
        most = len(self.candidates())
        if not 1 <= budget <= most:
            kept = f" ({self.size - most} of {self.size} are kept)" if most < self.size else ""
            raise BadInput(f"budget: {budget} of {most} samples{kept}; use 1 to {most}.")

    def unlabelled(self) -> Int64[Tensor, " u"]:
        """Indices of the candidates that are not in ``labelled``, sorted."""
        candidates = self.candidates()
        return candidates[~torch.isin(candidates, self.need("labelled"))]


def budget_of(ratio: float, size: int) -> int:
    """K for a ratio in percent of a pool, rounded to nearest; refused outside 1 to ``size``."""
    if not 0 < ratio <= 100 or round(ratio / 100 * size) < 1:
        raise BadInput(
            f"ratio: {ratio:g} % of {size} samples; use {min(100, 100 / size):.3g} to 100."
        )
    return round(ratio / 100 * size)


SHARED = {"pool", "descent"}  # the files of this folder that are no methods


def names() -> list[str]:
    """Names of all methods, sorted."""
    return sorted(
        {file.name for file in pkgutil.iter_modules([str(Path(__file__).parent)])} - SHARED
    )


def load(name: str) -> ModuleType:
    """Import the method ``name``; its module has ``select`` and ``NEEDS``."""
    if name not in names():
        raise BadInput(f"select: {name!r} is no method; {did_you_mean(name, names())}.")
    return importlib.import_module(f"vecaf_lib.selection.{name}")


def labels_seen(name: str) -> Literal["none", "chosen", "all"]:
    """Whose labels a method looks at, by its ``NEEDS``; a loss tells of a label.

    A method without any may still see embeddings that were finetuned on what it chose.
    """
    needs = load(name).NEEDS
    if needs & {"losses", "all_labels"}:
        return "all"
    of_the_chosen = {"labels", "classifier", "probabilities", "predicted_losses"}
    return "chosen" if needs & of_the_chosen else "none"


def option_schema(name: str) -> type[BaseModel]:
    """Pydantic model of a method's options: the keyword arguments of its ``select``."""
    return schema_of(load(name).select, {"pool", "budget", "generator", "record"}, name)


def builds_on(base: Callable[..., Any], without: Collection[str] = ()) -> Callable[[Any], Any]:
    """Decorate a ``select`` that hands its ``**options`` on to ``base``, to show them by name."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own, given = inspect.signature(function), inspect.signature(base).parameters.values()
        hidden = {*without, *own.parameters}
        added = [p for p in given if p.kind is p.KEYWORD_ONLY and p.name not in hidden]
        merged = own.replace(parameters=[*own.parameters.values()][:-1] + added)
        function.__signature__ = merged  # type: ignore[attr-defined]
        return function

    return decorate

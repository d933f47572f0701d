"""``select``: K rows that stand for an array, by any method of selection that trains nothing.

``SubsetSelector`` is the same as a scikit-learn estimator, ``SubsetQuery`` as a query strategy of
scikit-activeml.
"""

import operator
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, TransformerMixin, clone

from vecaf_lib import large_pool, seeding
from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool.engine import budget_from, not_negative, numbers, positions, represent
from vecaf_lib.large_pool.products import Rows, alone
from vecaf_lib.options import checked, one_of
from vecaf_lib.selection import Pool, load, names, option_schema

STREAMED = {"ods", "activeft", "kmeans"}  # by ``large_pool``, which never holds X as a whole
GIVEN = {"embeddings", "losses", "labelled", "labels", "all_labels", "probabilities"}
Options = Mapping[str, Any] | None  # of a method, by name
RENAMED = {"seed": "generator", "excluded": "labelled", "objective": "method"}


class Subset(NamedTuple):
    """A choice, and what stands for what."""

    indices: Int64[np.ndarray, " k"]  # of the chosen rows, in the order of choice
    representative: Int64[np.ndarray, " n"]  # of each row: index of its nearest chosen row
    similarity: Float[np.ndarray, " n"]  # cosine to that


def methods() -> list[str]:
    """Names of the methods that ``select`` knows: all that train nothing."""
    return [name for name in names() if load(name).NEEDS <= GIVEN]


def select(
    X: Any,
    K: Any,
    *,
    losses: Any = None,
    labelled: Any = None,
    generator: Any = 0,
    method: str = "ods",
    labels: Any = None,
    probabilities: Any = None,
    return_similarity: bool = False,
    engine: str = "fast",
    record: dict[str, Any] | None = None,
    **options: Any,
) -> Int64[np.ndarray, " k"] | Subset:
    """Choose K rows of X that stand for all of it.

    The choice of badge, coreset, loss_herding, maxherding, probcover, random, topk_loss and
    uherding has an order: its first k rows are the choice of k. That of the others is a set.
    BadInput: one sentence on what is wrong with an argument.

    Args:
        X: N x d numbers: a numpy array, a torch tensor, a pandas frame or a list of rows. A
            memory-mapped array of floats is streamed by ods, activeft and kmeans.
        K: how many, at most as many as there are rows that are not labelled.
        losses: N losses of a model, 0 or larger, the weights of ods; None, all rows weigh alike.
        labelled: rows that are labelled already, as indices or a mask of N: not chosen, and
            covered before all others.
        generator: a seed, or a ``torch.Generator`` on the CPU.
        method: one of ``methods()``. Of losses, labels and probabilities it sees what it needs.
        labels: N classes, numbers or text.
        probabilities: N x C, of a classifier.
        return_similarity: return a ``Subset``, with the representative of each row.
        engine: ``exact``: ods, activeft and kmeans by ``vecaf_lib.selection``, in memory.
        record: receives the method's diagnostics.
        options: the method's own; of a streamed one those of ``large_pool.select``.
    """
    if missing := sorted(load(method).NEEDS - GIVEN):
        raise BadInput(
            f"method: {method!r} needs {' and '.join(missing)}, which only a training loop has; "
            f"use one of {', '.join(methods())}."
        )
    if renamed := sorted(RENAMED.keys() & options.keys()):
        raise BadInput(f"select.{renamed[0]} is called {RENAMED[renamed[0]]} here.")
    X = numbers("X", X, 2)
    kept = positions("labelled", () if labelled is None else labelled, len(X))
    budget = budget_from("K", K, len(X), len(kept))
    shared: dict[str, Any] = {"record": record, "generator": generator}
    if not isinstance(generator, torch.Generator):
        shared["generator"] = torch.Generator().manual_seed(seed_from("generator", generator))
    if one_of(engine, ["fast", "exact"], "engine") == "fast" and method in STREAMED:
        weights = losses if method == "ods" else None
        options |= {"objective": method, "labelled": kept}
        chosen = large_pool.select(X, budget, weights, **shared, **options)
    else:
        options = checked(option_schema(method), options, "select")
        pool = pool_of(X, method, kept, losses, labels, probabilities)
        chosen = load(method).select(pool, budget, **shared, **options).numpy()
    return represented(X, chosen) if return_similarity else chosen


def pool_of(
    X: Any,
    method: str,
    kept: Int64[np.ndarray, " x"],
    losses: Any = None,
    labels: Any = None,
    probabilities: Any = None,
) -> Pool:
    """A pool of what the method needs and nothing else; BadInput where that was not given."""
    needs, size = load(method).NEEDS, len(X)
    fields: dict[str, Any] = {}
    if "embeddings" in needs:
        for _ in Rows(X).map(lambda *_: None):  # refuses rows without a direction
            pass
        fields["embeddings"] = Rows(X, unit=False)[:]
    if "losses" in needs:
        uniform = np.ones(size) if losses is None and method == "ods" else losses
        if uniform is None:
            raise BadInput(f"losses: method {method!r} needs them, one for each of {size} rows.")
        fields["losses"] = not_negative("losses", uniform, size, 1)
    if "probabilities" in needs and probabilities is not None:
        fields["probabilities"] = not_negative("probabilities", probabilities, size, 2)
    if "all_labels" in needs:
        given = np.asarray(labels, dtype=object)
        if given.shape != (size,) or pd.isna(given).any():
            raise BadInput(f"labels: method {method!r} needs the class of every row.")
        fields["all_labels"] = torch.from_numpy(pd.factorize(given, sort=True)[0].astype(np.int64))
    return Pool(size, excluded=torch.from_numpy(kept), **fields)


def represented(X: Any, chosen: Int64[np.ndarray, " k"]) -> Subset:
    """The chosen row that is nearest to each, and the cosine to it, in float32."""
    with alone() as threads:
        nearest, cosine = represent(Rows(X, threads=threads), torch.from_numpy(chosen), "float32")
    return Subset(chosen, nearest.numpy(), cosine.numpy())


def seed_from(name: str, value: Any) -> int:
    """A seed of any type that is a whole number; or BadInput."""
    try:
        seed = operator.index(value)
    except TypeError:
        seed = -1
    if not 0 <= seed < 2**63:
        raise BadInput(f"{name} is {value!r}; need a whole number, 0 to 2^63 - 1.")
    return seed


class SubsetSelector(TransformerMixin, BaseEstimator):
    """``select`` as an estimator: ``SubsetSelector(100).fit(X).selected_indices_``."""

    def __init__(
        self, budget: int = 100, *, method: str = "ods", generator: int = 0, options: Options = None
    ) -> None:
        self.budget, self.method, self.generator, self.options = budget, method, generator, options

    def fit(
        self, X: Any, y: Any = None, *, losses: Any = None, labelled: Any = None, **given: Any
    ) -> "SubsetSelector":
        """Select from X (N x d), see ``select``, whose ``labels`` are y; given: probabilities."""
        given |= {"losses": losses, "labelled": labelled, "labels": y, "method": self.method}
        given |= {"generator": self.generator} | dict(self.options or {})
        chosen: Any = select(X, self.budget, **given)
        self.selected_indices_ = chosen
        self.selected_rows_ = Rows(numbers("X", X, 2))[torch.from_numpy(chosen)].numpy()
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n k"]:
        """Cosine of each row of X (N x d) to each row that was selected."""
        theta = torch.from_numpy(self.selected_rows_)
        return torch.cat([*Rows(numbers("X", X, 2)).map(lambda _, x: x @ theta.T)]).numpy()


class SubsetQuery(BaseEstimator):
    """``select`` as a query strategy of scikit-activeml; NaN and None are missing labels, too."""

    def __init__(
        self,
        method: str = "ods",
        *,
        missing_label: Any = np.nan,
        random_state: int = 0,
        options: Options = None,
    ) -> None:
        self.method, self.missing_label = method, missing_label
        self.random_state, self.options = random_state, options

    def query(
        self,
        X: Any,
        y: Any,
        candidates: Any = None,
        batch_size: int = 1,
        return_utilities: bool = False,
        clf: Any = None,
    ) -> Any:
        """Choose ``batch_size`` rows of X (N x d), of those that y (N) has no label of.

        Args:
            candidates: indices of unlabelled rows; all others are then left out of account.
            return_utilities: return batch_size x N utilities, too: a set is chosen, rows have no
                scores, so that the row chosen next has 1 and all others that it could be have 0.
            clf: a classifier, fitted to the labelled rows for methods that see probabilities.
        """
        X, labels = numbers("X", X, 2), np.array(y, dtype=object)
        if labels.shape != (len(X),):
            raise BadInput(f"y: need a label, or none, for each of {len(X)} rows.")
        unlabelled = pd.isna(labels) | (labels == self.missing_label)
        kept, free = np.flatnonzero(~unlabelled), np.flatnonzero(unlabelled)
        if candidates is not None:
            free = positions("candidates", candidates, len(X))
            if not unlabelled[free].all():
                raise BadInput("candidates: some are labelled in y; leave them out.")
        if batch_size > len(free):  # as theirs
            warnings.warn(f"batch_size: {batch_size} of {len(free)} rows; all.", stacklevel=2)
            batch_size = len(free)
        at, given = np.union1d(kept, free), dict[str, Any]()
        if clf is not None and len(kept) and "probabilities" in load(self.method).NEEDS:
            fitted = clone(clf).fit(X[kept], np.asarray(y)[kept])
            given["probabilities"] = fitted.predict_proba(X[at])
        seed = seed_from("random_state", self.random_state)
        given |= {"generator": seeding.generator(seed, "query", len(kept)), "method": self.method}
        given |= {"labelled": np.searchsorted(at, kept)} | dict(self.options or {})
        chosen: Any = at[select(X if len(at) == len(X) else X[at], batch_size, **given)]
        if not return_utilities:
            return chosen
        utilities = np.full((len(chosen), len(X)), np.nan)
        for turn, row in enumerate(chosen):
            utilities[turn, np.setdiff1d(free, chosen[:turn])] = 0
            utilities[turn, row] = 1
        return chosen, utilities

"""``select`` on arrays of any kind, what it refuses, and its shapes for two other libraries."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import RandomSampling
from skactiveml.utils import MISSING_LABEL, call_func
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vecaf_lib import Subset, SubsetQuery, SubsetSelector, select
from vecaf_lib.errors import BadInput
from vecaf_lib.large_pool.engine import numbers
from vecaf_lib.selection import Pool, load, names, option_schema
from vecaf_lib.subset import methods, pool_of

N, D = 60, 8
DRAW = np.random.default_rng(0)
GROUPS = np.arange(N) % 5
# whole numbers, exact in every format
X = (10 * DRAW.normal(size=(5, D))[GROUPS] + DRAW.normal(size=(N, D))).round().astype(np.float32)
LOSSES = DRAW.random(N)
P = DRAW.dirichlet(np.ones(5), N)
TRAINED = ["alfa_mix", "learnloss", "ta_vaal"]
ORDERED = ["badge", "coreset", "loss_herding", "maxherding", "probcover", "random", "topk_loss"]
ORDERED = sorted({*ORDERED, "uherding"} & {*names()})
COVERING = ["coreset", "kmeans", "maxherding", "probcover", "typiclust", "uherding"]
COVERING = sorted({*COVERING, "loss_herding"} & {*names()})


def chosen(method: str, K: Any = 6, **options: Any) -> Any:
    """By any method, in few steps, with all that it may look at."""
    given: dict[str, Any] = {"losses": LOSSES, "labels": GROUPS, "probabilities": P}
    given |= {"iterations": 5} if "iterations" in option_schema(method).model_fields else {}
    given |= {"X": X, "K": N if method == "full" else K, "method": method}
    return select(**given | options)


def memory_mapped(folder: Path, kind: str) -> Any:
    np.save(folder / "X.npy", X.astype(kind))
    return np.load(folder / "X.npy", mmap_mode="r")


def test_the_library_is_imported_without_torch() -> None:
    code = "import sys, vecaf_lib; assert not {'torch', 'sklearn'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "options", [{}, {"engine": "exact", "losses": LOSSES}], ids=["fast", "exact"]
)
@pytest.mark.parametrize(
    "make",
    [
        lambda _: X.tolist(),
        lambda _: X.astype(int),
        lambda _: X.astype(np.int8).tolist(),
        lambda _: pd.DataFrame(X),
        lambda _: pd.DataFrame(X).astype({0: "Int64", 1: object}),
        lambda _: X.astype(np.float16),
        lambda _: X.astype(np.longdouble),
        lambda _: X.astype(">f4"),
        lambda _: np.asfortranarray(X.astype(float))[:, ::1],
        lambda _: torch.tensor(X, dtype=torch.bfloat16, requires_grad=True),
        lambda _: torch.tensor(X).int(),
        lambda folder: memory_mapped(folder, "<f2"),
        lambda folder: memory_mapped(folder, ">f8"),
    ],
)
def test_rows_of_any_kind(
    make: Callable[[Path], Any], options: dict[str, Any], tmp_path: Path
) -> None:
    options = options | {"iterations": 5}
    np.testing.assert_array_equal(select(make(tmp_path), 6, **options), select(X, 6, **options))


def test_a_memory_mapped_file_is_not_copied(tmp_path: Path) -> None:
    file = memory_mapped(tmp_path, "f2")
    assert np.shares_memory(numbers("X", file, 2), file)


@pytest.mark.parametrize("K", [6.0, np.int8(6), np.float32(6), np.array(6), torch.tensor([6.0])])
def test_budgets_of_any_kind(K: Any) -> None:
    assert chosen("random", K).tolist() == chosen("random", 6).tolist()


def test_seeds_of_any_kind() -> None:
    expected = chosen("random", generator=7).tolist()
    for generator in (np.uint32(7), torch.tensor(7), torch.Generator().manual_seed(7)):
        assert chosen("random", generator=generator).tolist() == expected
    assert chosen("random").tolist() != expected


def test_every_method_that_trains_nothing_is_reachable() -> None:
    assert methods() == [name for name in names() if name not in TRAINED]
    for method in methods():
        indices = chosen(method)
        assert indices.dtype == np.int64
        assert len({*indices.tolist()}) == len(indices) == (N if method == "full" else 6)
        assert 0 <= indices.min() <= indices.max() < N


@pytest.mark.parametrize("method", TRAINED)
def test_a_method_that_needs_training_says_so(method: str) -> None:
    with pytest.raises(BadInput, match=rf"{method}' needs \w+.* only a training loop has; use one"):
        chosen(method)


def test_a_method_gets_what_it_needs_and_nothing_else() -> None:
    for method in methods():
        pool = pool_of(X, method, np.array([3]), LOSSES, GROUPS, P)
        for name in ("embeddings", "losses", "all_labels", "probabilities"):
            assert (getattr(pool, name) is not None) == (name in load(method).NEEDS), (method, name)


@pytest.mark.parametrize("method", ORDERED)
def test_where_there_is_an_order_its_beginning_is_a_smaller_choice(method: str) -> None:
    assert chosen(method, 3).tolist() == chosen(method, 9).tolist()[:3]


@pytest.mark.parametrize("method", [name for name in methods() if name != "full"])
def test_labelled_rows_are_not_chosen(method: str) -> None:
    labelled = chosen(method)
    rest = chosen(method, 54, labelled=labelled, engine="exact")
    assert sorted([*labelled, *rest]) == [*range(N)]
    mask = np.isin(np.arange(N), labelled)
    for same in (mask, torch.tensor(labelled), pd.Series(labelled[::-1]), labelled.astype(float)):
        assert chosen(method, labelled=same).tolist() == chosen(method, labelled=labelled).tolist()


@pytest.mark.parametrize("method", COVERING)
def test_what_is_labelled_is_covered(method: str) -> None:
    """Of five groups of which four have a labelled row the fifth gets the next."""
    options: dict[str, Any] = {"delta": 0.6} if method == "probcover" else {}
    options |= {"labelled": [0, 1, 2, 3], "losses": np.ones(N), "probabilities": None}
    for seed in range(5):
        (row,) = chosen(method, 1, generator=seed, **options)
        assert GROUPS[row] == 4


def test_representatives_are_the_nearest_chosen_rows() -> None:
    found: Any = chosen("random", return_similarity=True)
    assert isinstance(found, Subset)
    e = X / np.linalg.norm(X, axis=1, keepdims=True)
    for row in range(N):
        cosines = {other: float(e[row] @ e[other]) for other in found.indices}
        assert found.similarity[row] == pytest.approx(max(cosines.values()), abs=5e-3)  # int8
        assert cosines[found.representative[row]] == pytest.approx(found.similarity[row], abs=1e-6)


def test_losses_pull() -> None:
    """Without them ods weighs all rows alike; rows of a loss of 0 do not count."""
    uniform = chosen("ods", losses=None)
    assert uniform.tolist() == chosen("ods", losses=np.ones(N)).tolist()
    one = chosen("ods", 2, losses=GROUPS == 4, lambda_=0.0, iterations=300)
    assert (GROUPS[one] == 4).all()


def test_more_rows_alike_than_are_chosen_are_told_apart() -> None:
    for method in methods():
        indices = chosen(method, 7, X=np.ones((N, D)))
        assert len({*indices.tolist()}) == len(indices)


WRONG = X.copy()
WRONG[7, 2] = np.nan
ZERO = X.copy()
ZERO[9] = 0
BAD: list[tuple[dict[str, Any], str]] = [
    ({"X": WRONG}, "row 7 has NaN"),
    ({"X": ZERO}, "row 9 .* all zeros"),
    ({"X": [["a", "b"], ["c", "d"]]}, r"X: need a matrix of numbers, .*got list"),
    ({"X": ["a cat", "a dog"]}, "X: need a matrix"),
    ({"X": X[:, 0]}, "X: need a matrix"),
    ({"X": [[1.0, 2.0], [3.0]]}, "X: need a matrix"),
    ({"X": X[:0]}, r"X: need a matrix .* shape \(0, 8\)"),
    ({"X": []}, "X: need a matrix"),
    ({"X": None}, "X: need a matrix"),
    ({"X": X + 1j}, "X: need a matrix"),
    ({"X": torch.tensor(X + 1j)}, "X: need a matrix"),
    ({"K": 0}, "K is 0; need a whole number, 1 or more, of the 60 rows that may be chosen"),
    ({"K": 61}, "K is 61; .* of the 60 rows"),
    ({"K": 55, "labelled": range(6)}, "of the 54 rows that may be chosen"),
    ({"K": 0.1}, "K is 0.1; of 60 rows that share is 6, give that"),
    ({"K": 2.5}, "K is 2.5; need a whole number"),
    ({"K": float("nan")}, "K is nan"),
    ({"K": "6"}, "K is '6'"),
    ({"K": [6, 7]}, "K is "),
    ({"K": None}, "K is None"),
    ({"labelled": [3, 60]}, "labelled: need numbers of rows, 0 to 59, each once"),
    ({"labelled": [-1]}, "labelled: need"),
    ({"labelled": [3, 4, 3]}, "labelled: need .* each once"),
    ({"labelled": [0.5]}, "labelled: need"),
    ({"labelled": [[3, 4]]}, "labelled: need"),
    ({"labelled": ["3"]}, "labelled: need"),
    ({"labelled": np.ones(59, bool)}, "labelled: need .* or a mask"),
    ({"losses": LOSSES[1:]}, "losses: need finite .* each of 60 rows"),
    ({"losses": -LOSSES}, "losses: need finite numbers, 0 or larger"),
    ({"losses": LOSSES * np.nan}, "losses: need finite"),
    ({"losses": P}, "losses: need a number for each row"),
    ({"losses": None, "method": "topk_loss"}, "losses: method 'topk_loss' needs them"),
    ({"losses": -LOSSES, "engine": "exact"}, "losses: need finite"),
    ({"method": "ods_by_class"}, "labels: method 'ods_by_class' needs the class of every row"),
    ({"method": "ods_by_class", "labels": [None, *GROUPS[1:]]}, "labels: .* of every row"),
    ({"method": "ods_by_class", "labels": GROUPS[1:]}, "labels: .* of every row"),
    ({"method": "osd"}, "'osd' is no method; did you mean 'ods'"),
    ({"generator": 1.5}, "generator is 1.5; need a whole number"),
    ({"generator": -1}, "generator is -1"),
    ({"engine": "quick"}, "'quick' is no engine"),
    ({"iteration": 3}, "select.iteration is not a setting; did you mean 'iterations'"),
    ({"iteration": 3, "engine": "exact"}, "select.iteration .* did you mean 'iterations'"),
    ({"seed": 3}, "select.seed is called generator here"),
]


@pytest.mark.parametrize(
    ("change", "says"), BAD, ids=[f"{n}-{'-'.join(change)}" for n, (change, _) in enumerate(BAD)]
)
def test_bad_input_is_one_sentence(change: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {"X": X, "K": 5} | change
    for method in {"ods", "ods_official"} if "method" not in change and "X" in change else {"ods"}:
        with pytest.raises(BadInput, match=says) as raised:
            select(**{"method": method, "losses": LOSSES} | arguments)
        assert "\n" not in str(raised.value)


def test_the_estimator() -> None:
    selector = SubsetSelector(5, method="activeft", generator=4, options={"iterations": 5})
    fitted = clone(selector).fit(X, labelled=[3])
    expected: Any = select(X, 5, method="activeft", generator=4, iterations=5, labelled=[3])
    assert fitted.selected_indices_.tolist() == expected.tolist()
    e = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.transform(3 * X), e @ e[expected].T, atol=1e-6)
    assert make_pipeline(StandardScaler(), selector).fit_transform(X).shape == (N, 5)
    by_class = SubsetSelector(5, method="ods_by_class", options={"iterations": 5})
    assert {*GROUPS[by_class.fit(X, GROUPS, losses=LOSSES).selected_indices_]} == {*range(5)}


def strategies() -> list[Any]:
    """The protocol is theirs: one of their strategies passes the same tests."""
    return [SubsetQuery("random"), SubsetQuery(), RandomSampling(random_state=0)]


@pytest.mark.parametrize("strategy", strategies(), ids=repr)
@pytest.mark.parametrize("candidates", [None, [2, 8, 29, 31, 59]])
def test_the_protocol_of_scikit_activeml(strategy: Any, candidates: Any) -> None:
    y = np.where(np.arange(N) % 10 == 0, GROUPS, MISSING_LABEL)
    free = {*np.flatnonzero(np.isnan(y))} if candidates is None else {*candidates}
    options = {"candidates": candidates, "batch_size": 3, "return_utilities": True}
    query, utilities = strategy.query(X, y, **options)
    assert query.shape == (3,)
    assert utilities.shape == (3, N)
    for turn, row in enumerate(query):
        assert {*np.flatnonzero(~np.isnan(utilities[turn]))} == free - {*query[:turn]}
        assert utilities[turn, row] == np.nanmax(utilities[turn])
    again = strategy.query(X, y, candidates=candidates, batch_size=3)
    assert again.tolist() == query.tolist()
    with pytest.warns(UserWarning, match="batch_size"):
        everything = strategy.query(X, y, candidates=candidates, batch_size=N)
    assert {*everything} == free
    with pytest.raises(ValueError):  # noqa: PT011 (of theirs each has its own sentence)
        strategy.query(X, y[1:])


def test_the_pool_based_example_of_scikit_activeml() -> None:
    points, y_true = make_blobs(n_samples=200, centers=4, random_state=0)
    y = np.full(shape=y_true.shape, fill_value=MISSING_LABEL)
    y[:10] = y_true[:10]
    classifier = SklearnClassifier(LogisticRegression(), classes=np.unique(y_true), random_state=0)
    strategy = SubsetQuery("ods", options={"iterations": 5})
    for _ in range(20):
        query = call_func(strategy.query, X=points, y=y, clf=classifier, fit_clf=True)
        y[query] = y_true[query]
    assert np.isfinite(y).sum() == 30
    assert classifier.fit(points, y).score(points, y_true) > 0.85


def test_a_query_sees_the_classifier_and_the_labels_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Pool] = []

    def first(pool: Pool, budget: int, **_: Any) -> Tensor:
        seen.append(pool)
        return pool.candidates()[:budget]

    monkeypatch.setattr(load("random"), "NEEDS", frozenset({"probabilities"}))
    monkeypatch.setattr(load("random"), "select", first)
    y = np.where(np.arange(N) < 10, np.array([*"abcde"])[GROUPS], "?").astype(object)
    strategy = SubsetQuery("random", missing_label="?")
    query = strategy.query(X, y, candidates=[20, 40], clf=LogisticRegression())
    assert query.tolist() == [20]
    assert seen[0].size == 12
    expected = LogisticRegression().fit(X[:10], y[:10]).predict_proba(X[[*range(10), 20, 40]])
    np.testing.assert_allclose(seen[0].probabilities, expected, atol=1e-6)
    with pytest.raises(BadInput, match="candidates: some are labelled"):
        strategy.query(X, y, candidates=[1, 20])
    with pytest.raises(BadInput, match="candidates: need numbers of rows"):
        strategy.query(X, y, candidates=X[:3])
    assert SubsetQuery("random").query(X, np.full(N, None), batch_size=2).shape == (2,)

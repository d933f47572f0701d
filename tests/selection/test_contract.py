"""One contract for all methods: whoever adds a file to vecaf_lib/selection is tested here."""

import inspect
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small import pool_fields, seeded
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.selection import Pool, load, names, option_schema
from vecaf_lib.selection.pool import budget_of

SEEDLESS = {"full", "topk_loss", "class_herding", "loss_herding", "maxherding", "uherding"}
WHOLE_POOL_ONLY = {"full"}  # any other budget than N is refused
COLD = [name for name in names() if getattr(load(name), "COLD_START", False)]
ALL = pytest.mark.parametrize("name", names())


def choose(name: str, pool: Pool, budget: int, seed: int = 0, **options: Any) -> Tensor:
    """At least the budget that the method takes, in few steps."""
    short = {"iterations": 25, "steps": 5}
    given = {option: short[option] for option in option_schema(name).model_fields.keys() & short}
    return load(name).select(pool, budget, generator=seeded(seed), **given | options)


def budget_for(name: str, pool: Pool, budget: int = 6) -> int:
    return pool.size if name in WHOLE_POOL_ONLY else budget


def alike(n: int) -> Pool:
    """A pool whose samples cannot be told apart; one is labelled."""
    others = pool_fields(n, 4, seeded(0)) | {"predicted_losses": torch.ones(n)}
    others["images"] = torch.full_like(others["images"], 7)
    return Pool(n, embeddings=torch.ones(n, 4), losses=torch.ones(n), **others)


def check_exact(chosen: Tensor, budget: int, size: int) -> None:
    assert chosen.dtype == torch.int64
    assert chosen.shape == (budget,)
    assert len(set(chosen.tolist())) == budget
    assert chosen.min() >= 0
    assert chosen.max() < size


@ALL
def test_module_states_its_needs_and_has_the_one_signature(name):
    module = load(name)
    assert isinstance(module.NEEDS, frozenset)
    assert {field.name for field in fields(Pool)} - {"size"} >= module.NEEDS
    parameters = inspect.signature(module.select).parameters
    assert list(parameters)[:2] == ["pool", "budget"]
    keyword_only = list(parameters.values())[2:]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in keyword_only)
    assert parameters["generator"].default is inspect.Parameter.empty
    assert all(p.default is not inspect.Parameter.empty for p in keyword_only[1:])


@ALL
@pytest.mark.parametrize("budget", [1, 7, 60])
def test_exact_budget_unique_in_range(name, budget, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool, budget)
    check_exact(choose(name, pool, budget), budget, pool.size)


@ALL
def test_same_seed_same_answer_with_a_record_or_none_and_the_same_pool(name, make_pool):
    pool, untouched, record = make_pool(), make_pool(), {}
    budget = budget_for(name, pool)
    answer = choose(name, pool, budget, seed=3)
    assert torch.equal(answer, choose(name, pool, budget, seed=3, record=record))
    assert all(isinstance(value, (int, float)) for value in record.values())
    assert torch.equal(pool.embeddings, untouched.embeddings)
    assert torch.equal(pool.losses, untouched.losses)


@ALL
def test_answers_differ_between_seeds_unless_the_method_is_deterministic(name, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool)
    answers = {tuple(choose(name, pool, budget, seed=seed).tolist()) for seed in range(5)}
    assert len(answers) == 1 if name in SEEDLESS else len(answers) > 1


@ALL
@pytest.mark.parametrize("budget", [0, -1, 61])
def test_budget_outside_the_pool_is_refused(name, budget, make_pool):
    sentence = "all 60" if name in WHOLE_POOL_ONLY else f"budget: {budget} .* 1 to 60"
    with pytest.raises(BadInput, match=sentence):
        choose(name, make_pool(), budget)


@ALL
@pytest.mark.parametrize("seed", range(3))
def test_what_is_excluded_is_not_chosen(name, seed, make_pool):
    """The sets that are kept: all that earlier loops chose, here with three samples besides."""
    excluded = torch.cat([torch.arange(0, 60, 10), torch.tensor([3, 4, 59])])
    pool = replace(make_pool(seed=seed), excluded=excluded)
    if name not in WHOLE_POOL_ONLY:
        for budget in (6, 51):
            chosen = choose(name, pool, budget, seed=seed)
            check_exact(chosen, budget, pool.size)
            assert not torch.isin(chosen, excluded).any()
        assert torch.equal(chosen.sort().values, pool.candidates())
    with pytest.raises(BadInput, match=r"51 samples \(9 of 60 are kept\); use 1 to 51"):
        choose(name, pool, budget_for(name, pool, 52))


@ALL
def test_an_empty_exclusion_changes_nothing(name, make_pool):
    pool, none = make_pool(), torch.empty(0, dtype=torch.int64)
    budget = budget_for(name, pool)
    bare = choose(name, pool, budget)
    assert torch.equal(choose(name, replace(pool, excluded=none), budget), bare)


@ALL
def test_a_missing_field_is_named(name, make_pool):
    pool = make_pool()
    later = {"predicted_losses", "probabilities"}  # absent in the first loop
    for field in load(name).NEEDS - later:
        with pytest.raises(BadInput, match=rf"pool\.{field} "):
            choose(name, replace(pool, **{field: None}), 6)


@ALL
@pytest.mark.parametrize("n", [1, 2, 12])
def test_all_embeddings_and_losses_equal(name, n):
    pool = alike(n)
    for budget in {1, max(1, n // 2), n}:
        budget = budget_for(name, pool, budget)
        check_exact(choose(name, pool, budget), budget, n)


@ALL
def test_float64_zero_losses_and_tensors_of_inference_mode_are_accepted(name, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool)
    for embeddings in (pool.embeddings.double(), pool.embeddings):
        for losses in (pool.losses.double(), torch.zeros(60)):
            other = replace(pool, embeddings=embeddings, losses=losses)
            check_exact(choose(name, other, budget), budget, pool.size)
    needs = {field: getattr(pool, field) for field in load(name).NEEDS}  # no others are read
    with torch.inference_mode():
        measured = {k: v.clone() if torch.is_tensor(v) else v for k, v in needs.items()}
    bare = choose(name, Pool(pool.size, **measured), budget)
    assert torch.equal(bare, choose(name, pool, budget))


@pytest.mark.parametrize("name", ["activeft", "ods", "ods_official"])
def test_an_objective_that_is_not_finite_is_refused(name, make_pool):
    with pytest.raises(BadInput, match=r"objective is (nan|inf|-inf); use a larger tau"):
        choose(name, make_pool(), 6, tau=1e-39)


@pytest.mark.parametrize("name", COLD)
def test_a_cold_start_is_random_and_later_sets_are_unlabelled(name, make_pool):
    pool, nobody = make_pool(), torch.empty(0, dtype=torch.int64)
    cold = replace(pool, predicted_losses=None, labelled=nobody, labels=nobody)
    assert torch.equal(choose(name, cold, 9), choose("random", cold, 9))
    assert not torch.isin(choose(name, pool, 9), pool.labelled).any()
    assert torch.isin(choose(name, pool, 58), pool.labelled).sum() == 4  # 54 are not labelled


@pytest.mark.parametrize("field", ["embeddings", "losses"])
def test_a_pool_of_nan_infinity_negative_losses_or_the_wrong_length_is_refused(field, make_pool):
    pool = make_pool()
    for value in (float("nan"), float("inf"), -float("inf")):
        broken = getattr(pool, field).clone()
        broken[[3, 5]] = value
        with pytest.raises(BadInput, match=f"{field}: 2 of 60"):
            replace(pool, **{field: broken})
    with pytest.raises(BadInput, match=f"{field}: 59 rows"):
        Pool(60, **{field: getattr(pool, field)[:-1]})
    with pytest.raises(BadInput, match=r"losses: \d+ of 60 .* negative"):
        replace(pool, losses=pool.losses - 0.5)


@pytest.mark.parametrize("ratio", [0.0, -5.0, 100.1, float("nan"), float("inf"), 1.0])
def test_a_ratio_that_is_no_share_or_less_than_one_sample_is_refused(ratio):
    with pytest.raises(BadInput, match=r"ratio: .* 2\.5 to 100"):
        budget_of(ratio, 40)


@given(st.floats(0, 100, exclude_min=True), st.integers(1, 10**6))
def test_a_budget_is_the_nearest_number_in_the_pool(ratio, size):
    try:
        assert 1 <= budget_of(ratio, size) <= size
        assert abs(budget_of(ratio, size) - ratio / 100 * size) <= 0.5
    except BadInput:
        assert ratio / 100 * size <= 0.5


@pytest.mark.parametrize(
    ("method", "option", "wrong"),
    [
        *[("ods", "tau", v) for v in (0, float("nan"))],
        *[("ods", option, -1) for option in ("lambda_", "loss_power", "tolerance", "iterations")],
        *[("ods", "shrinkage", v) for v in (0, 1.01)],
        *[("ods_by_class", option, -1) for option in ("class_power", "tau", "iterations")],
        *[("ods_self_paced", option, 1) for option in ("loss_power", "engine", "options")],
        ("activeft", "lambda_", 1),
        ("ods_official", "weight", "softmax"),
        *[(rival, "subset", v) for rival in ("learnloss", "ta_vaal") for v in (0, 1.5)],
        ("random", "generator", 1),
        *[("kmeans", option, -1) for option in ("iterations", "engine")],
        ("probcover", "classes", 1),
        ("bilaf", "core_share", 0),
    ],
)
def test_options_out_of_range_or_unknown_are_refused(method, option, wrong):
    with pytest.raises(ValidationError, match=option):
        option_schema(method)(**{option: wrong})


def test_option_defaults_are_those_of_the_signature_and_of_what_it_builds_on():
    descent = {"iterations": 300, "learning_rate": 1e-3, "tolerance": 0.0}
    activeft = {"tau": 0.07, "engine": "exact"}
    ods = {"lambda_": 1.0, "loss_power": 1.0, "ensemble": 5, "shrinkage": 1.0, "tolerance": 1e-4}
    ods |= {"last_descent": False}
    defaults = {name: option_schema(name)().model_dump() for name in names()}
    assert defaults["activeft"] == descent | activeft
    assert defaults["ods"] == descent | activeft | ods
    paced = defaults["ods"] | {"pace": 3.0}
    assert defaults["ods_self_paced"] == {
        k: v for k, v in paced.items() if k not in ("loss_power", "engine")
    }
    by_class = defaults["ods"] | {"ensemble": 1, "class_power": 1.0}
    assert defaults["ods_by_class"] == {k: v for k, v in by_class.items() if k != "engine"}
    official = {"weight": "sigmoid", "tau": 0.07, "ensemble": None, "iterations": 100}
    assert defaults["ods_official"] == descent | official
    assert defaults["learnloss"] == {"subset": 0.2}

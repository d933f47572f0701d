"""One contract for all methods: whoever adds a file to vecaf_lib/selection is tested here."""

import inspect
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from pools import known, seeded
from torch import Tensor

from vecaf_lib.errors import BadInput
from vecaf_lib.selection import Pool, load, names

SEEDLESS = {"full", "topk_loss", "learnloss"}  # deterministic once samples are labelled
WHOLE_POOL_ONLY = {"full"}  # any other budget than N is refused
ALL = pytest.mark.parametrize("name", names())
BUDGETED = pytest.mark.parametrize("name", sorted(set(names()) - WHOLE_POOL_ONLY))


def choose(name: str, pool: Pool, budget: int, seed: int = 0, **options: Any) -> Tensor:
    select = load(name).select
    short = {"iterations": 25, "steps": 5}
    for option in inspect.signature(select).parameters.keys() & short:
        options.setdefault(option, short[option])
    return select(pool, budget, generator=torch.Generator().manual_seed(seed), **options)


def budget_for(name: str, pool: Pool, budget: int) -> int:
    return pool.size if name in WHOLE_POOL_ONLY else budget


def alike(n: int) -> Pool:
    """A pool whose samples cannot be told apart; one is labelled."""
    told = known(n, 4, seeded(0)) | {"predicted_losses": torch.ones(n)}
    told["images"] = torch.full_like(told["images"], 7)
    return Pool(n, embeddings=torch.ones(n, 4), losses=torch.ones(n), **told)


def check_exact(chosen: Tensor, budget: int, size: int) -> None:
    assert chosen.dtype == torch.int64
    assert chosen.shape == (budget,)
    assert len(set(chosen.tolist())) == budget
    assert chosen.min() >= 0
    assert chosen.max() < size


def test_the_methods_of_this_issue_are_found():
    rivals = {"random", "full", "activeft", "topk_loss", "learnloss", "ta_vaal", "alfa_mix"}
    assert rivals | {"ods", "ods_official"} <= set(names())


def test_unknown_method_suggests_the_nearest():
    with pytest.raises(BadInput, match="did you mean 'activeft'"):
        load("activeftt")


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
def test_same_seed_same_answer_and_the_pool_is_left_alone(name, make_pool):
    pool, untouched = make_pool(), make_pool()
    budget = budget_for(name, pool, 6)
    first = choose(name, pool, budget, seed=3)
    assert torch.equal(first, choose(name, pool, budget, seed=3))
    assert torch.equal(pool.embeddings, untouched.embeddings)
    assert torch.equal(pool.losses, untouched.losses)


@ALL
def test_answers_differ_between_seeds_unless_the_method_is_deterministic(name, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool, 6)
    answers = {tuple(choose(name, pool, budget, seed=seed).tolist()) for seed in range(5)}
    assert len(answers) == 1 if name in SEEDLESS else len(answers) > 1


@BUDGETED
@pytest.mark.parametrize("budget", [0, -1, 61])
def test_budget_outside_the_pool_is_refused(name, budget, make_pool):
    with pytest.raises(BadInput, match=f"budget: {budget} samples of a pool of 60; use 1 to 60"):
        choose(name, make_pool(), budget)


@pytest.mark.parametrize("budget", [0, -1, 6, 59, 61])
def test_full_refuses_any_budget_but_the_whole_pool(budget, make_pool):
    with pytest.raises(BadInput, match="uses all 60 samples"):
        choose("full", make_pool(), budget)


@ALL
def test_a_missing_field_is_named(name, make_pool):
    pool = make_pool()
    for field in load(name).NEEDS - {"predicted_losses"}:  # that is absent before the first loop
        with pytest.raises(BadInput, match=rf"pool\.{field} is absent"):
            choose(name, replace(pool, **{field: None}), 6)


@ALL
def test_only_the_needs_are_read(name, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool, 6)
    needs = {field: getattr(pool, field) for field in load(name).NEEDS}
    bare = choose(name, Pool(pool.size, **needs), budget)
    assert torch.equal(bare, choose(name, pool, budget))


@pytest.mark.parametrize("name", [name for name in names() if "losses" not in load(name).NEEDS])
def test_a_method_without_losses_is_blind_to_labels(name, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool, 6)
    relabelled = replace(pool, losses=pool.losses.flip(0) ** 3)
    assert torch.equal(choose(name, pool, budget), choose(name, relabelled, budget))


@ALL
@pytest.mark.parametrize("n", [2, 12])
def test_all_embeddings_and_losses_equal(name, n):
    pool = alike(n)
    for budget in (1, n // 2, n):
        budget = budget_for(name, pool, budget)
        check_exact(choose(name, pool, budget), budget, n)


@ALL
def test_a_pool_of_one(name):
    pool = alike(1)
    assert choose(name, pool, 1).tolist() == [0]


@ALL
def test_all_losses_zero(name, make_pool):
    pool = replace(make_pool(), losses=torch.zeros(60))
    budget = budget_for(name, pool, 6)
    check_exact(choose(name, pool, budget), budget, pool.size)


@ALL
def test_float64_embeddings_and_losses(name, make_pool):
    pool = make_pool()
    budget = budget_for(name, pool, 6)
    for embeddings in (pool.embeddings.double(), pool.embeddings):
        double = replace(pool, embeddings=embeddings, losses=pool.losses.double())
        check_exact(choose(name, double, budget), budget, pool.size)


@pytest.mark.parametrize("name", ["activeft", "ods", "ods_official"])
def test_an_objective_that_is_not_finite_is_refused(name, make_pool):
    with pytest.raises(BadInput, match=r"objective is (nan|inf|-inf); use a larger tau"):
        choose(name, make_pool(), 6, tau=1e-39)


@ALL
def test_embeddings_measured_in_inference_mode_are_accepted(name, make_pool):
    with torch.inference_mode():
        pool = make_pool()
    budget = budget_for(name, pool, 6)
    assert torch.equal(choose(name, pool, budget), choose(name, make_pool(), budget))


def test_topk_follows_a_permutation_of_the_pool(make_pool):
    pool, order = make_pool(), torch.randperm(60, generator=torch.Generator().manual_seed(9))
    shuffled = Pool(60, embeddings=pool.embeddings[order], losses=pool.losses[order])
    assert torch.equal(order[choose("topk_loss", shuffled, 9)], choose("topk_loss", pool, 9))


COLD = [name for name in names() if getattr(load(name), "COLD_START", False)]


def test_which_methods_start_at_random():
    assert COLD == ["alfa_mix", "learnloss", "ta_vaal"]


@pytest.mark.parametrize("name", COLD)
def test_a_cold_start_is_random_and_the_labelled_are_not_asked_again(name, make_pool):
    pool, nobody = make_pool(), torch.empty(0, dtype=torch.int64)
    cold = replace(pool, predicted_losses=None, labelled=nobody, labels=nobody)
    assert torch.equal(choose(name, cold, 9), choose("random", cold, 9))
    warm = choose(name, pool, 9)
    assert not torch.isin(warm, pool.labelled).any()
    assert torch.isin(choose(name, pool, 58), pool.labelled).sum() == 4  # 54 are not labelled


@ALL
def test_a_record_is_optional_and_json_able(name, make_pool):
    record: dict[str, Any] = {}
    pool = make_pool()
    budget = budget_for(name, pool, 6)
    chosen = choose(name, pool, budget, record=record)
    assert torch.equal(chosen, choose(name, pool, budget))
    assert all(isinstance(value, (int, float)) for value in record.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["embeddings", "losses"])
def test_a_pool_with_nan_or_infinity_is_refused(field, value, make_pool):
    pool = make_pool()
    broken = getattr(pool, field).clone()
    broken[[3, 5]] = value
    with pytest.raises(BadInput, match=f"{field}: 2 of 60 samples have NaN or infinite values"):
        replace(pool, **{field: broken})


def test_negative_losses_are_refused(make_pool):
    pool = make_pool()
    with pytest.raises(BadInput, match="losses: some are negative"):
        replace(pool, losses=pool.losses - 0.5)


@pytest.mark.parametrize("field", ["embeddings", "losses"])
def test_a_pool_of_the_wrong_length_is_refused(field, make_pool):
    short = {field: getattr(make_pool(), field)[:-1]}
    with pytest.raises(BadInput, match=f"{field}: 59 rows for a pool of 60 samples"):
        Pool(60, **short)

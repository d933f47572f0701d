"""Algorithm 1 as a whole, on a small model: pairing, label honesty, repeatability, the record."""

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import small
import torch
from torch import Tensor

from vecaf_lib import loop as loop_module
from vecaf_lib import training
from vecaf_lib.cea import Augmentation, OfficialAugmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import measure
from vecaf_lib.loop import active_finetuning
from vecaf_lib.models.vision import PVM
from vecaf_lib.observation import Observation, describe
from vecaf_lib.seeding import generator
from vecaf_lib.selection import Pool, load, names
from vecaf_lib.selection.pool import labels_seen
from vecaf_lib.training import Recipe

POOL, BUDGET, STEPS, LOOPS = 40, 8, 7, 3
CLASSES = ("a", "b", "c")
FAST = {"iterations": 5, "learning_rate": 0.01}
OPTIONS: dict[str, dict[str, Any]] = {
    "random": {},
    "activeft": FAST,
    "topk_loss": {},
    "ods": FAST
    | {"ensemble": 2, "iterations": 20, "loss_power": 50.0},  # losses differ little here
    "ods_by_class": FAST | {"iterations": 20},
    "ods_self_paced": FAST | {"ensemble": 2, "iterations": 20, "pace": 50.0},
    "ods_official": FAST | {"ensemble": 3, "iterations": 20, "weight": "exp"},
    "learnloss": {},
    "ta_vaal": {"steps": 3, "width": 4, "batch_size": 8, "image_size": 16},
    "ods_margin": FAST | {"ensemble": 2, "iterations": 20},
    "loss_herding": {"loss_power": 50.0},
}
OPTIONS |= {name: {} for name in names() if name not in {*OPTIONS, "full"}}
COLD = ["alfa_mix", "learnloss", "ta_vaal"]  # the first set is random
BY_CLASS = ["class_herding", "ods_by_class", "stratified"]  # see classes in the first loop, too
SEEING = [*BY_CLASS, "loss_herding", "ods", "ods_official", "ods_self_paced", "topk_loss"]
BLIND = sorted({*OPTIONS} - {*SEEING})  # see the labels of what they have chosen, no others
RECIPE = Recipe(steps=STEPS, batch_size=4, learning_rate=0.05, evaluate_every=3, shift=1)


def make_pvm(seed: int) -> PVM:
    return small.make_pvm(seed=seed, classes=len(CLASSES))


def make_images(size: int, name: str, seed: int = 0) -> ImageSet:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 3, 32, 32), generator=draw).to(torch.uint8)
    labels = torch.randint(0, len(CLASSES), (size,), generator=draw)
    return ImageSet(images, labels, tuple(f"{name}-{i}" for i in range(size)), CLASSES)


TRAIN, VALIDATION, TEST = (
    make_images(size, name, seed)
    for seed, (name, size) in enumerate({"train": POOL, "validation": 6, "test": 9}.items())
)
TEXT = torch.randn(POOL, 5, generator=torch.Generator().manual_seed(9))


def run(
    method: str = "random",
    *,
    seed: int = 0,
    train: ImageSet = TRAIN,
    pvm: PVM | None = None,
    cea: bool | Augmentation = False,
    select: Callable[..., Tensor] | None = None,
    **others: Any,
) -> dict[str, Any]:
    module = load(method)
    values: dict[str, Any] = {"budget": BUDGET, "loops": LOOPS, "multi_run": True, "recipe": RECIPE}
    pvm = pvm or make_pvm(seed)
    predictor = getattr(module, "LOSS_PREDICTOR", None)
    return active_finetuning(
        pvm,
        train,
        VALIDATION,
        TEST,
        select=select or functools.partial(module.select, **OPTIONS.get(method, {})),
        needs=module.NEEDS,
        cea=Augmentation(TEXT, seed=seed, eta=1.0) if cea is True else cea or None,
        seed=seed,
        loss_predictor=predictor and predictor(pvm, generator(seed, "companion")),
        cold_start=getattr(module, "COLD_START", False),
        **values | others,
    )


def spied(method: str, pools: list[Pool]) -> Callable[..., Tensor]:
    """The method's ``select``, which keeps the pools that it is given."""

    def select(pool: Pool, *rest: Any, **others: Any) -> Tensor:
        pools.append(pool)
        selection: Tensor = load(method).select(pool, *rest, **OPTIONS[method], **others)
        return selection

    return select


def chosen(result: dict[str, Any]) -> list[list[str]]:
    return [record["chosen"] for record in result["loops"]]


@pytest.mark.parametrize("method", sorted(OPTIONS))
@pytest.mark.parametrize("cea", [False, True])
def test_the_record_of_a_run(method: str, cea: bool) -> None:
    pvm = make_pvm(0)
    result = run(method, pvm=pvm, cea=cea)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["budget"] == BUDGET
    assert result["steps"] == len(result["train_loss"]) == STEPS
    assert [point["step"] for point in result["curve"]] == [3, 6, 7]
    assert result["validation_accuracy"] == result["curve"][-1]["validation_accuracy"]
    assert result["validation_accuracy"] == measure(pvm, VALIDATION)["accuracy"]  # of the last step
    assert result["test_accuracy"] == measure(pvm, TEST)["accuracy"]
    assert [record["loop"] for record in result["loops"]] == [1, 2, 3]
    for record in result["loops"]:
        assert len(set(record["chosen"])) == len(record["chosen"]) == BUDGET
        assert (record["cea"] is not None) == cea
        if cea:
            assert record["cea"]["relative_move"] > 0
    needs = load(method).NEEDS
    sources = [record["losses_from"] for record in result["loops"]]
    expected = ["uniform", "classifier", "classifier"] if "losses" in needs else [None] * 3
    assert sources == expected
    pool_losses = [record["mean_pool_loss"] for record in result["loops"]]
    assert [loss is None for loss in pool_losses] == [source != "classifier" for source in expected]


@pytest.mark.parametrize("method", sorted(OPTIONS))
def test_same_seed_same_result_other_seed_another(method: str) -> None:
    first = run(method, cea=True)
    assert run(method, cea=True) == first
    assert run(method, cea=True, seed=1) != first


def test_selection_is_fresh_in_every_loop_or_made_once() -> None:
    pools: list[Pool] = []
    several = chosen(run(select=spied("random", pools)))
    assert len(pools) == 3
    assert several[0] != several[1] != several[2]
    once = chosen(run(multi_run=False, select=spied("random", pools)))
    assert len(pools) == 3 + 1
    assert once == [several[0]] * 3  # the set of the first loop, of the same stream


def test_sets_that_are_kept_grow_and_no_sample_is_chosen_twice() -> None:
    result = run(sets="kept")
    first, second, third = map(set, chosen(result))
    assert first == set(chosen(run())[0])
    assert first < second < third
    assert [len(ids) for ids in chosen(result)] == [BUDGET * (loop + 1) for loop in range(3)]
    assert [loop["fresh"] for loop in result["loops"]] == [BUDGET] * 3


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Loop, ids and number of steps of each call of ``finetune``."""
    calls: list[Any] = []
    finetune = training.Finetuner.finetune

    def spy(self: Any, data: ImageSet, *rest: Any, loop: int, **others: Any) -> None:
        before = len(self.train_loss)
        finetune(self, data, *rest, loop=loop, **others)
        calls.append((loop, data.ids, len(self.train_loss) - before))

    monkeypatch.setattr(training.Finetuner, "finetune", spy)
    return calls


def test_loops_share_the_steps_and_each_trains_on_its_own_choice(trained: list[Any]) -> None:
    result = run()
    assert [(loop, list(ids)) for loop, ids, _ in trained] == list(enumerate(chosen(result)))
    assert [steps for *_, steps in trained] == [2, 2, 3]


def test_the_test_split_is_measured_once_and_last(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    measure = loop_module.measure

    def spy(pvm: PVM, data: ImageSet, *objective: Any) -> dict[str, float]:
        measured.append(data.ids[0])
        return measure(pvm, data, *objective)

    monkeypatch.setattr(loop_module, "measure", spy)
    monkeypatch.setattr(training, "measure", spy)
    run()
    assert measured == ["validation-0"] * 3 + ["test-0"]


def test_more_draws_in_selection_leave_order_and_augmentation_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches: list[list[Any]] = []
    augmented = training.augmented

    def spy(*a: Any, **k: Any) -> Any:
        for at, images in augmented(*a, **k):
            batches[-1] += [at.tolist(), images.sum().item()]
            yield at, images

    monkeypatch.setattr(training, "augmented", spy)
    for draws in (0, 100):

        def select(pool: Pool, budget: int, *, generator: Any, n: int = draws, **_: Any) -> Tensor:
            torch.rand(n, generator=generator)
            return torch.arange(BUDGET)

        batches.append([])
        run(select=select, loops=2)
    assert batches[0] == batches[1]
    assert len(batches[0]) == 2 * STEPS


def permuted(which: set[str], by: int = 1) -> ImageSet:
    """The training labels of the samples in ``which`` change hands among them."""
    at = torch.tensor([i for i, name in enumerate(TRAIN.ids) if name in which])
    labels = TRAIN.labels.clone()
    labels[at] = labels[at].roll(by)
    assert not torch.equal(labels, TRAIN.labels)
    return replace(TRAIN, labels=labels)


@pytest.mark.parametrize("method", BLIND)
@pytest.mark.parametrize("cea", [False, True])
def test_labels_of_samples_that_were_not_chosen_do_not_matter(method: str, cea: bool) -> None:
    first = run(method, cea=cea)
    hidden = set(TRAIN.ids).difference(*chosen(first))
    assert run(method, cea=cea, train=permuted(hidden)) == first


@pytest.mark.parametrize("method", SEEING)
def test_labels_matter_to_methods_that_need_all_of_them(method: str) -> None:
    """The same test can fail: these are said to see all labels, and they do."""
    first = run(method)
    second = run(method, train=permuted(set(TRAIN.ids).difference(*chosen(first))))
    if method in BY_CLASS:
        assert chosen(second)[0] != chosen(first)[0]
        return
    assert second["loops"][0]["chosen"] == first["loops"][0]["chosen"]  # losses are uniform there
    assert [record["mean_pool_loss"] for record in second["loops"]] != [
        record["mean_pool_loss"] for record in first["loops"]
    ]
    assert chosen(second) != chosen(first)


def test_which_methods_are_blind_and_which_start_cold() -> None:
    assert {name for name in names() if labels_seen(name) == "all"} == {*SEEING}
    with pytest.raises(BadInput, match="did you mean 'activeft'"):
        load("activeftt")
    assert set(COLD) == {name for name in OPTIONS if getattr(load(name), "COLD_START", False)}


@pytest.mark.parametrize("method", BLIND)
def test_the_second_choice_knows_no_labels_but_those_of_the_first(method: str) -> None:
    first = chosen(run(method, loops=2))
    hidden = set(TRAIN.ids) - set(first[0])
    for by in (1, 5):
        assert chosen(run(method, loops=2, train=permuted(hidden, by))) == first


@pytest.mark.parametrize("method", ["learnloss", "ta_vaal"])  # alfa_mix: see its own tests
def test_the_second_choice_does_use_the_labels_of_the_first(method: str) -> None:
    """The test above can fail: what was chosen teaches the model and what stands beside it."""
    recipe = Recipe(steps=20, batch_size=4, learning_rate=0.05)
    first = chosen(run(method, loops=2, recipe=recipe))
    second = chosen(run(method, loops=2, recipe=recipe, train=permuted(set(first[0]))))
    assert second[0] == first[0]
    assert second[1] != first[1]


@pytest.mark.parametrize("method", COLD)
def test_a_cold_start_is_random_and_its_single_run_keeps_the_second_choice(method: str) -> None:
    pools: list[Pool] = []
    needs = load(method).NEEDS
    single = chosen(run(method, multi_run=False, select=spied(method, pools)))
    assert single[0] == chosen(run("random"))[0]
    assert single[1] == single[2]
    assert not set(single[1]) & set(single[0])
    assert len(pools) == 2
    labelled = [[TRAIN.ids[i] for i in pool.need("labelled").tolist()] for pool in pools]
    assert labelled == [[], sorted(single[0], key=TRAIN.ids.index)]
    if "predicted_losses" in needs:
        assert pools[0].predicted_losses is None
        assert pools[1].need("predicted_losses").shape == (POOL,)
    if "labels" in needs:
        labels = [TRAIN.labels[TRAIN.ids.index(name)] for name in labelled[1]]
        assert pools[1].need("labels").tolist() == labels
    several = chosen(run(method))
    assert several[:2] == single[:2]
    assert several[2] != single[2]
    assert len({name for one in several for name in one}) == LOOPS * BUDGET  # always new ones


@pytest.mark.parametrize("source", ["linear_probe", "classifier"])
def test_first_losses(source: str) -> None:
    record = run("topk_loss", first_losses=source, loops=2)["loops"]
    assert [one["losses_from"] for one in record] == [source, "classifier"]
    assert record[0]["mean_chosen_loss"] > record[0]["mean_pool_loss"]
    assert record[0]["chosen"] != [f"train-{i}" for i in range(BUDGET)]  # uniform: order of files


def test_the_next_selection_sees_the_selected_samples_augmented() -> None:
    def embeddings(cea: Augmentation | bool) -> list[Tensor]:
        pools: list[Tensor] = []

        def select(pool: Pool, budget: int, **_: Any) -> Tensor:
            pools.append(pool.need("embeddings").clone())
            return torch.arange(budget)

        run("activeft", cea=cea, loops=2, select=select)
        return pools

    options: dict[str, Any] = {"finetune_augmented": False, "eta": 1.0}  # both runs train alike
    plain = embeddings(False)
    moved = embeddings(Augmentation(TEXT, seed=0, **options))
    assert torch.equal(plain[0], moved[0])
    changed = (plain[1] != moved[1]).any(1)
    assert changed.tolist() == [True] * BUDGET + [False] * (POOL - BUDGET)
    none = embeddings(Augmentation(TEXT, seed=0, pool_scope="none", **options))
    assert torch.equal(none[1], plain[1])
    everywhere = embeddings(Augmentation(TEXT, seed=0, pool_scope="all", **options))
    assert (everywhere[0] != plain[0]).any(1).all()


def test_augmentation_changes_training_unless_it_is_switched_off() -> None:
    plain = run("random")
    assert run("random", cea=True)["train_loss"] != plain["train_loss"]
    selection_only = Augmentation(TEXT, seed=0, eta=1.0, finetune_augmented=False)
    for cea in (selection_only, OfficialAugmentation(TEXT, seed=0)):
        result = run("random", cea=cea)
        assert result["train_loss"] == plain["train_loss"]
        assert result["test_accuracy"] == plain["test_accuracy"]


def test_full_data_finetuning_uses_the_whole_pool(trained: list[Any]) -> None:
    result = run("full", budget=POOL, multi_run=False)
    assert [ids for _, ids, _ in trained] == [TRAIN.ids] * 3
    assert chosen(result) == [None] * 3  # the record does not list the pool
    with pytest.raises(BadInput, match="all 40 samples"):
        run("full")


def test_a_network_that_training_has_killed_leaves_a_record_without_nan() -> None:
    data = make_images(POOL, "train")
    dead = Observation(torch.zeros(POOL, 4), torch.full((POOL,), torch.nan), "classifier")
    cea = Augmentation(torch.ones(POOL, 3), seed=0, bridge="random")
    chosen = torch.arange(BUDGET)
    cea.fit(torch.zeros(POOL, 4), chosen)
    record = describe(1, dead, data, chosen, chosen, {"objective": torch.inf, "n": 3}, cea)
    json.dumps(record, allow_nan=False)
    assert record["mean_pool_loss"] is record["mean_chosen_loss"] is None
    assert record["cea"]["relative_move"] is None
    assert record["selection"] == {"objective": None, "n": 3}

"""Algorithm 1 as a whole, on a small model: pairing, label honesty, repeatability, the record."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import functools
import json
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from vecaf_lib import loop as loop_module
from vecaf_lib import training
from vecaf_lib.cea import Augmentation
from vecaf_lib.datasets import ImageSet
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import measure
from vecaf_lib.loop import active_finetuning
from vecaf_lib.observation import Observation, describe
from vecaf_lib.official import OfficialAugmentation
from vecaf_lib.seeding import generator
from vecaf_lib.selection import Pool, load, names
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
    "alfa_mix": {},
}
COLD = ["alfa_mix", "learnloss", "ta_vaal"]  # the first set is random
BLIND = ["random", "activeft", *COLD]  # see the labels of what they have chosen, no others
RECIPE = Recipe(steps=STEPS, batch_size=4, learning_rate=0.05, evaluate_every=3, shift=1)


def make_pvm(seed: int) -> PVM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = timm.create_model("test_resnet", pretrained=False)
    return PVM(backbone, len(CLASSES), generator=generator(seed, "initialisation"))


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


def relabelled(data: ImageSet, labels: Tensor) -> ImageSet:
    return ImageSet(data.images, labels, data.ids, data.class_names)


def run(
    method: str = "random",
    *,
    seed: int = 0,
    train: ImageSet = TRAIN,
    pvm: PVM | None = None,
    cea: bool = False,
    **others: Any,
) -> dict[str, Any]:
    module = load(method)
    values: dict[str, Any] = {"budget": BUDGET, "loops": LOOPS, "multi_run": True, "recipe": RECIPE}
    pvm = pvm or make_pvm(seed)
    companion = getattr(module, "COMPANION", None)
    return active_finetuning(
        pvm,
        train,
        VALIDATION,
        TEST,
        select=functools.partial(module.select, **OPTIONS.get(method, {})),
        needs=module.NEEDS,
        cea=Augmentation(TEXT, seed=seed, eta=1.0) if cea else None,
        seed=seed,
        predictor=companion and companion(pvm, generator(seed, "companion")),
        cold_start=getattr(module, "COLD_START", False),
        **values | others,
    )


def chosen(result: dict[str, Any]) -> list[list[str]]:
    return [told["chosen"] for told in result["loops"]]


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
    assert [told["loop"] for told in result["loops"]] == [1, 2, 3]
    label_of = dict(zip(TRAIN.ids, TRAIN.labels.tolist(), strict=True))
    for told in result["loops"]:
        assert len(set(told["chosen"])) == len(told["chosen"]) == BUDGET
        assert told["labels_chosen"] == [label_of[name] for name in told["chosen"]]
        assert (told["cea"] is not None) == cea
        if cea:
            assert told["cea"]["relative_move"] > 0
    needs = load(method).NEEDS
    sources = [told["losses_from"] for told in result["loops"]]
    expected = ["uniform", "classifier", "classifier"] if "losses" in needs else [None] * 3
    assert sources == expected
    pool_losses = [told["mean_pool_loss"] for told in result["loops"]]
    assert [loss is None for loss in pool_losses] == [source != "classifier" for source in expected]


@pytest.mark.parametrize("method", sorted(OPTIONS))
def test_same_seed_same_result_other_seed_another(method: str) -> None:
    first = run(method, cea=True)
    assert run(method, cea=True) == first
    assert run(method, cea=True, seed=1) != first


def test_selection_is_fresh_in_every_loop_or_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    module = load("random")
    select = module.select
    monkeypatch.setattr(module, "select", lambda *a, **k: calls.append(1) or select(*a, **k))
    several = chosen(run(multi_run=True))
    assert len(calls) == 3
    assert several[0] != several[1] != several[2]
    calls.clear()
    once = chosen(run(multi_run=False))
    assert len(calls) == 1
    assert once == [several[0]] * 3  # the first selection, of the same stream


def test_accumulating_keeps_what_was_chosen() -> None:
    fresh, kept = chosen(run()), chosen(run(accumulate=True))
    assert kept[0] == fresh[0]
    assert set(kept[1]) == set(fresh[0]) | set(fresh[1])
    assert set(kept[2]) == set(fresh[0]) | set(fresh[1]) | set(fresh[2])
    assert all(len(set(names)) == len(names) for names in kept)


def test_loops_share_the_steps_and_each_trains_on_its_own_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = []
    finetune = loop_module.Finetuner.finetune

    def spy(self: Any, data: ImageSet, *rest: Any, loop: int, **others: Any) -> None:
        before = len(self.train_loss)
        finetune(self, data, *rest, loop=loop, **others)
        trained.append((loop, data.ids, len(self.train_loss) - before))

    monkeypatch.setattr(loop_module.Finetuner, "finetune", spy)
    result = run()
    assert [(loop, list(ids)) for loop, ids, _ in trained] == list(enumerate(chosen(result)))
    assert [steps for *_, steps in trained] == [2, 2, 3]


def test_the_test_split_is_looked_at_once_and_last(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    measure = loop_module.measure

    def spy(pvm: PVM, data: ImageSet, *objective: Any) -> dict[str, float]:
        looked.append(data.ids[0])
        return measure(pvm, data, *objective)

    monkeypatch.setattr(loop_module, "measure", spy)
    monkeypatch.setattr(training, "measure", spy)
    run()
    assert looked == ["validation-0"] * 3 + ["test-0"]


def test_seeds_are_paired_across_methods() -> None:
    """One seed: one first classifier, and one order of batches for all methods alike."""
    starts: dict[tuple[str, int], Tensor] = {}
    for method in OPTIONS:
        for seed in (0, 1):
            pvm = make_pvm(seed)
            starts[method, seed] = pvm.classifier.weight.detach().clone()
            run(method, pvm=pvm, seed=seed)
            assert not torch.equal(starts[method, seed], pvm.classifier.weight)
    for method in OPTIONS:
        assert torch.equal(starts[method, 0], starts["random", 0])
        assert not torch.equal(starts[method, 0], starts["random", 1])


def test_more_draws_in_selection_leave_order_and_augmentation_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    same = torch.arange(BUDGET)
    seen: list[list[Any]] = []
    show = training.show

    def spied(*a: Any, **k: Any) -> Any:
        for at, images in show(*a, **k):
            seen[-1] += [at.tolist(), images.sum().item()]
            yield at, images

    monkeypatch.setattr(training, "show", spied)
    for draws in (0, 100):

        def select(
            pool: Pool, budget: int, *, generator: Any, record: Any, n: int = draws
        ) -> Tensor:
            torch.rand(n, generator=generator)
            return same

        seen.append([])
        values: dict[str, Any] = {"cea": None, "budget": BUDGET, "loops": 2, "multi_run": True}
        active_finetuning(
            make_pvm(0), TRAIN, VALIDATION, TEST, select=select, needs=frozenset(),
            recipe=RECIPE, seed=0, **values,
        )  # fmt: skip
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2 * STEPS


def spoilt(train: ImageSet, known: set[str]) -> ImageSet:
    """Other labels for all samples that are not in ``known``."""
    hidden = torch.tensor([name not in known for name in train.ids])
    labels = torch.where(hidden, (train.labels + 1) % len(CLASSES), train.labels)
    assert not torch.equal(labels, train.labels)
    return relabelled(train, labels)


@pytest.mark.parametrize("method", BLIND)
@pytest.mark.parametrize("cea", [False, True])
def test_labels_of_samples_that_were_not_chosen_do_not_matter(method: str, cea: bool) -> None:
    first = run(method, cea=cea)
    known = {name for one in chosen(first) for name in one}
    assert known < set(TRAIN.ids)
    assert run(method, cea=cea, train=spoilt(TRAIN, known)) == first


@pytest.mark.parametrize("method", ["topk_loss", "ods", "ods_official"])
def test_labels_matter_to_methods_that_are_shown_all_losses(method: str) -> None:
    """The same test can fail: these are said to see all labels, and they do."""
    first = run(method)
    known = {name for one in chosen(first) for name in one}
    second = run(method, train=spoilt(TRAIN, known))
    assert second["loops"][0]["chosen"] == first["loops"][0]["chosen"]  # losses are uniform there
    assert [told["mean_pool_loss"] for told in second["loops"]] != [
        told["mean_pool_loss"] for told in first["loops"]
    ]
    assert chosen(second) != chosen(first)


def test_which_methods_are_blind_and_which_start_cold() -> None:
    assert set(names()) == {*OPTIONS, "full"}
    assert set(BLIND) == {name for name in OPTIONS if "losses" not in load(name).NEEDS}
    assert set(COLD) == {name for name in OPTIONS if getattr(load(name), "COLD_START", False)}


def permuted(train: ImageSet, which: set[str], by: int) -> ImageSet:
    """The labels of the samples in ``which`` change hands among them."""
    at = torch.tensor([i for i, name in enumerate(train.ids) if name in which])
    labels = train.labels.clone()
    labels[at] = labels[at].roll(by)
    assert not torch.equal(labels, train.labels)
    return relabelled(train, labels)


@pytest.mark.parametrize("method", BLIND)
def test_the_second_choice_knows_no_labels_but_those_of_the_first(method: str) -> None:
    first = chosen(run(method, loops=2))
    hidden = set(TRAIN.ids) - set(first[0])
    for by in (1, 5):
        assert chosen(run(method, loops=2, train=permuted(TRAIN, hidden, by))) == first


@pytest.mark.parametrize("method", ["learnloss", "ta_vaal"])  # alfa_mix: see its own tests
def test_the_second_choice_does_use_the_labels_of_the_first(method: str) -> None:
    """The test above can fail: what was chosen teaches the model and what stands beside it."""
    recipe = Recipe(steps=20, batch_size=4, learning_rate=0.05)
    first = chosen(run(method, loops=2, recipe=recipe))
    second = chosen(run(method, loops=2, recipe=recipe, train=permuted(TRAIN, set(first[0]), 1)))
    assert second[0] == first[0]
    assert second[1] != first[1]


@pytest.mark.parametrize("method", COLD)
def test_a_cold_start_is_random_and_its_single_run_keeps_the_second_choice(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: list[Pool] = []
    module = load(method)
    select = module.select

    def spy(pool: Pool, *rest: Any, **others: Any) -> Tensor:
        pools.append(pool)
        picked: Tensor = select(pool, *rest, **others)
        return picked

    monkeypatch.setattr(module, "select", spy)
    single = chosen(run(method, multi_run=False))
    assert single[0] == chosen(run("random"))[0]
    assert single[1] == single[2]
    assert not set(single[1]) & set(single[0])
    assert len(pools) == 2
    known = [[TRAIN.ids[i] for i in pool.need("labelled").tolist()] for pool in pools]
    assert known == [[], sorted(single[0], key=TRAIN.ids.index)]
    if "predicted_losses" in module.NEEDS:
        assert pools[0].predicted_losses is None
        assert pools[1].need("predicted_losses").shape == (POOL,)
    if "labels" in module.NEEDS:
        labels = [TRAIN.labels[TRAIN.ids.index(name)] for name in known[1]]
        assert pools[1].need("labels").tolist() == labels
    several = chosen(run(method))
    assert several[:2] == single[:2]
    assert several[2] != single[2]
    assert len({name for one in several for name in one}) == LOOPS * BUDGET  # always new ones


@pytest.mark.parametrize("source", ["linear_probe", "classifier"])
def test_first_losses(source: str) -> None:
    told = run("topk_loss", first_losses=source, loops=2)["loops"]
    assert [one["losses_from"] for one in told] == [source, "classifier"]
    assert told[0]["mean_chosen_loss"] > told[0]["mean_pool_loss"]
    assert told[0]["chosen"] != [f"train-{i}" for i in range(BUDGET)]  # uniform: order of files


def test_top_k_takes_the_largest_losses_of_the_present_model() -> None:
    pvm = make_pvm(0)
    pools: list[Pool] = []
    module = load("topk_loss")

    def select(pool: Pool, *rest: Any, **others: Any) -> Tensor:
        pools.append(pool)
        picked: Tensor = module.select(pool, *rest, **others)
        return picked

    values: dict[str, Any] = {"cea": None, "budget": BUDGET, "loops": 2, "multi_run": True}
    result = active_finetuning(
        pvm, TRAIN, VALIDATION, TEST, select=select, needs=module.NEEDS, recipe=RECIPE, seed=0,
        **values,
    )  # fmt: skip
    assert pools[0].losses is not None
    assert pools[1].losses is not None
    assert torch.equal(pools[0].losses, torch.ones(POOL))
    largest = pools[1].losses.argsort(descending=True)[:BUDGET]
    assert chosen(result)[1] == [TRAIN.ids[i] for i in largest.tolist()]


def test_the_next_selection_sees_the_selected_samples_augmented() -> None:
    pools: list[Tensor] = []

    def select(pool: Pool, budget: int, **_: Any) -> Tensor:
        assert pool.embeddings is not None
        pools.append(pool.embeddings.clone())
        return torch.arange(budget)

    def seen(cea: Augmentation | None) -> list[Tensor]:
        pools.clear()
        active_finetuning(
            make_pvm(0), TRAIN, VALIDATION, TEST, select=select, needs=frozenset({"embeddings"}),
            cea=cea, budget=BUDGET, loops=2, multi_run=True, recipe=RECIPE, seed=0,
        )  # fmt: skip
        return list(pools)

    options = {"finetune_augmented": False, "eta": 1.0}  # so that both runs train alike
    plain = seen(None)
    moved = seen(Augmentation(TEXT, seed=0, **options))  # type: ignore[arg-type]
    assert torch.equal(plain[0], moved[0])
    changed = (plain[1] != moved[1]).any(1)
    assert changed.tolist() == [True] * BUDGET + [False] * (POOL - BUDGET)
    none = seen(Augmentation(TEXT, seed=0, pool_scope="none", **options))  # type: ignore[arg-type]
    assert torch.equal(none[1], plain[1])
    everywhere = seen(Augmentation(TEXT, seed=0, pool_scope="all", **options))  # type: ignore[arg-type]
    assert (everywhere[0] != plain[0]).any(1).all()


def test_augmentation_changes_training_unless_it_is_switched_off() -> None:
    plain = run("random")
    assert run("random", cea=True)["train_loss"] != plain["train_loss"]
    module = load("random")
    values: dict[str, Any] = {"budget": BUDGET, "loops": LOOPS, "multi_run": True, "recipe": RECIPE}
    for cea in (
        Augmentation(TEXT, seed=0, eta=1.0, finetune_augmented=False),
        OfficialAugmentation(TEXT, seed=0),
    ):
        result = active_finetuning(
            make_pvm(0), TRAIN, VALIDATION, TEST, select=module.select, needs=module.NEEDS,
            cea=cea, seed=0, **values,
        )  # fmt: skip
        assert result["train_loss"] == plain["train_loss"]
        assert result["test_accuracy"] == plain["test_accuracy"]


def test_full_data_finetuning_uses_the_whole_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    finetune = training.Finetuner.finetune

    def watched(self: training.Finetuner, data: ImageSet, *a: Any, **k: Any) -> None:
        used.append(data.ids)
        finetune(self, data, *a, **k)

    monkeypatch.setattr(training.Finetuner, "finetune", watched)
    result = run("full", budget=POOL, multi_run=False)
    assert used == [TRAIN.ids] * 3
    assert chosen(result) == [None] * 3  # the record does not list the pool
    assert [told["labels_chosen"] for told in result["loops"]] == [None] * 3
    with pytest.raises(BadInput, match="uses all 40 samples; give 100"):
        run("full")


@pytest.mark.parametrize("budget", [0, POOL + 1])
def test_budgets_outside_the_pool(budget: int) -> None:
    with pytest.raises(BadInput, match=f"budget: {budget} samples of a pool of 40; use 1 to 40"):
        run(budget=budget)


def test_a_network_that_training_has_killed_leaves_a_record_without_nan() -> None:
    data = make_images(POOL, "train")
    seen = Observation(torch.zeros(POOL, 4), torch.full((POOL,), torch.nan), "classifier")
    cea = Augmentation(torch.ones(POOL, 3), seed=0, bridge="random")
    cea.fit(torch.zeros(POOL, 4), torch.arange(BUDGET))
    told = describe(1, seen, data, torch.arange(BUDGET), {"objective": torch.inf, "n": 3}, cea)
    json.dumps(told, allow_nan=False)
    assert told["mean_pool_loss"] is told["mean_chosen_loss"] is None
    assert told["cea"]["relative_move"] is None
    assert told["selection"] == {"objective": None, "n": 3}
    assert told["labels_chosen"] == data.labels[:BUDGET].tolist()

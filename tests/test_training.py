"""Exact step budgets, one cosine over all loops, frozen statistics, honest batches."""

import vecaf_lib.encoders  # noqa: F401 (timm can be imported after it)

# isort: split
import math
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor

from vecaf_lib.datasets import ImageSet
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import look, measure
from vecaf_lib.training import Finetuner, Recipe, set_training

CLASSES = ("circle", "line", "dot")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_pvm(seed: int = 0, architecture: str = "test_resnet") -> PVM:
    """A small model with random weights, some 400,000 parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = timm.create_model(architecture, pretrained=False)
    return PVM(backbone, len(CLASSES), generator=seeded(seed))


def make_images(size: int, seed: int = 0) -> ImageSet:
    """Noise of three brightnesses, one a class."""
    labels = torch.arange(size) % len(CLASSES)
    noise = torch.randint(0, 60, (size, 3, 32, 32), generator=seeded(seed))
    images = (noise + 90 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    ids = tuple(f"image-{index}" for index in range(size))
    return ImageSet(images, labels, ids, CLASSES)


def make_recipe(steps: int = 6, **others: object) -> Recipe:
    values = {"batch_size": 4, "learning_rate": 0.01, "evaluate_every": 100} | others
    return Recipe(steps=steps, **values)  # type: ignore[arg-type]


VALIDATION = make_images(6, seed=1)


@pytest.mark.parametrize(("steps", "loops"), [(60, 3), (60, 7), (5, 5), (7, 2), (4, 1)])
def test_the_budget_is_exact_and_shared_equally(steps: int, loops: int) -> None:
    finetuner = Finetuner(make_pvm(), make_recipe(steps), loops=loops, seed=0)
    shares = [end - start for start, end in zip([0, *finetuner.ends], finetuner.ends, strict=False)]
    assert sum(shares) == finetuner.ends[-1] == steps
    assert len(shares) == loops
    assert max(shares) - min(shares) <= 1


def test_as_many_optimiser_steps_are_made_as_were_budgeted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    sgd = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a: taken.append(1) or sgd(self, *a))
    finetuner = Finetuner(make_pvm(), make_recipe(8, evaluate_every=3), loops=3, seed=0)
    counts = []
    for loop in range(3):
        finetuner.finetune(make_images(5), VALIDATION, loop=loop)
        counts.append(len(taken))
    assert counts == [2, 5, 8]
    report = finetuner.report()
    assert len(report["train_loss"]) == report["steps"] == 8
    assert [point["step"] for point in report["curve"]] == [3, 6, 8]  # the last step, always
    assert report["validation_accuracy"] == report["curve"][-1]["validation_accuracy"]


@pytest.mark.parametrize(("restart", "warm_up"), [(False, 0), (True, 0), (False, 4), (True, 4)])
def test_learning_rates(monkeypatch: pytest.MonkeyPatch, restart: bool, warm_up: int) -> None:
    rates: list[float] = []
    momenta: list[bool] = []

    def step(self: torch.optim.SGD, *_: object) -> None:
        rates.append(self.param_groups[0]["lr"])
        momenta.append(bool(self.state))
        self.state[self.param_groups[0]["params"][0]] = {"momentum_buffer": None}

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    recipe = make_recipe(7, learning_rate=0.5, warm_up=warm_up, restart_each_loop=restart)
    finetuner = Finetuner(make_pvm(), recipe, loops=2, seed=0)
    for loop in range(2):
        finetuner.finetune(make_images(4), VALIDATION, loop=loop)
    cosines = [0.25 * (1 + math.cos(math.pi * i / 7)) for i in range(7)]
    if restart:  # loops of 3 and 4 steps
        cosines = [0.25 * (1 + math.cos(math.pi * i / n)) for n in (3, 4) for i in range(n)]
    if warm_up:  # once, over all loops
        cosines[:4] = [
            part * rate for part, rate in zip((0.25, 0.5, 0.75, 1), cosines, strict=False)
        ]
    assert rates == pytest.approx(cosines)
    assert momenta == [False, True, True, not restart, True, True, True]


def statistics(pvm: PVM) -> dict[str, Tensor]:
    state = pvm.state_dict()
    return {name: state[name].clone() for name in state if "running" in name or "num_" in name}


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_statistics(frozen: bool) -> None:
    pvm = make_pvm()
    before, weight = statistics(pvm), pvm.backbone.get_submodule("bn1").weight.clone()
    recipe = make_recipe(3, freeze_batchnorm_statistics=frozen, evaluate_every=1)
    Finetuner(pvm, recipe, loops=1, seed=0).finetune(make_images(8), VALIDATION, loop=0)
    after = statistics(pvm)
    assert len(after) == 3 * 15
    changed = [name for name in after if not torch.equal(before[name], after[name])]
    assert changed == ([] if frozen else list(after))
    assert not torch.equal(weight, pvm.backbone.get_submodule("bn1").weight)  # trained either way


def test_training_mode_returns_after_each_evaluation() -> None:
    pvm = make_pvm()
    measure(pvm, VALIDATION)
    assert not any(module.training for module in pvm.modules())
    set_training(pvm, freeze_batchnorm_statistics=True)
    norms = [m for m in pvm.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert pvm.training
    assert not any(module.training for module in norms)
    set_training(pvm, freeze_batchnorm_statistics=False)
    assert all(module.training for module in pvm.modules())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_without_a_number_is_told(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    calls = iter([1.0, loss])
    monkeypatch.setattr(
        "vecaf_lib.objective.cross_entropy",
        lambda scores, *_, **__: scores.sum(1) * 0 + next(calls),
    )
    finetuner = Finetuner(make_pvm(), make_recipe(3), loops=1, seed=0)
    sentence = (
        rf"^training: the loss is {loss} at step 2; lower training.learning_rate \(now 0.01\)\.$"
    )
    with pytest.raises(BadInput, match=sentence):
        finetuner.finetune(make_images(4), VALIDATION, loop=0)


def test_too_large_a_rate_ends_in_that_sentence() -> None:
    recipe = make_recipe(30, learning_rate=1e6)
    with pytest.raises(BadInput, match=r"training: the loss is (nan|inf) at step"):
        Finetuner(make_pvm(), recipe, loops=1, seed=0).finetune(make_images(8), VALIDATION, loop=0)


def test_training_sees_augmented_embeddings_and_evaluation_plain_ones() -> None:
    pvm = make_pvm()
    seen: list[tuple[bool, Tensor]] = []
    pvm.classifier.register_forward_pre_hook(
        lambda module, inputs: seen.append((module.training, inputs[0].detach().clone()))
    )
    lifted: list[tuple[Tensor, Tensor]] = []

    def lift(e: Tensor, at: Tensor) -> Tensor:
        assert e.requires_grad  # e stays live
        lifted.append((e.detach().clone(), at))
        return e + 100.0

    chosen = make_images(9)
    finetuner = Finetuner(pvm, make_recipe(4, evaluate_every=2), loops=1, seed=0)
    finetuner.finetune(chosen, VALIDATION, loop=0, lift=lift)

    training = [e for mode, e in seen if mode]
    evaluation = [e for mode, e in seen if not mode]
    assert len(training) == len(lifted) == 4
    for e, (plain, _) in zip(training, lifted, strict=True):
        torch.testing.assert_close(e, plain + 100)
    assert len(evaluation) == 2
    torch.testing.assert_close(evaluation[-1], look(pvm, VALIDATION.images)[0])
    positions = torch.cat([at for _, at in lifted])
    assert sorted(positions[:9].tolist()) == list(range(9))  # places in the selection


def test_a_gradient_flows_through_the_augmentation_into_the_model() -> None:
    pvm = make_pvm()
    before = pvm.backbone.get_submodule("conv1")[0].weight.clone()  # type: ignore[index]
    finetuner = Finetuner(pvm, make_recipe(1), loops=1, seed=0)
    finetuner.finetune(make_images(4), VALIDATION, loop=0, lift=lambda e, at: 0.5 * e + 1)
    assert not torch.equal(before, pvm.backbone.get_submodule("conv1")[0].weight)  # type: ignore[index]


def test_looking_in_parts_changes_nothing() -> None:
    pvm, images = make_pvm(), make_images(11).images
    whole, parts = look(pvm, images), look(pvm, images, batch_size=4)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other)
    assert [tuple(part.shape) for part in whole] == [(11, 96), (11, 3)]
    assert not whole[0].requires_grad


def test_accuracy_is_the_share_of_right_answers_in_percent() -> None:
    pvm, data = make_pvm(), make_images(9)
    _, scores = look(pvm, data.images)
    right = sum(int(row.argmax() == label) for row, label in zip(scores, data.labels, strict=True))
    assert measure(pvm, data)["accuracy"] == pytest.approx(100 * right / 9)
    with torch.no_grad():
        pvm.classifier.weight.zero_()
        pvm.classifier.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    assert measure(pvm, data)["accuracy"] == pytest.approx(100 / 3)


def test_it_learns_what_is_easy() -> None:
    pvm, pool = make_pvm(), make_images(60)
    finetuner = Finetuner(pvm, make_recipe(30, batch_size=12, learning_rate=0.05), loops=1, seed=0)
    finetuner.finetune(pool, VALIDATION, loop=0)
    assert finetuner.train_loss[-1] < 0.5 * finetuner.train_loss[0]
    assert measure(pvm, make_images(30, seed=2))["accuracy"] > 90


def test_gradients_are_clipped() -> None:
    def first_step(clip_norm: float | None) -> float:
        pvm = make_pvm()
        before = torch.cat([p.detach().flatten().clone() for p in pvm.parameters()])
        recipe = make_recipe(1, clip_norm=clip_norm, weight_decay=0.0, momentum=0.0)
        Finetuner(pvm, recipe, loops=1, seed=0).finetune(make_images(4), VALIDATION, loop=0)
        after = torch.cat([p.detach().flatten() for p in pvm.parameters()])
        return float((after - before).norm())

    free, clipped = first_step(None), first_step(1e-3)
    assert clipped == pytest.approx(0.01 * 1e-3, rel=0.05)  # rate times norm
    assert free > 10 * clipped


def losses(seed: int, make: Callable[[], PVM] = make_pvm, **others: object) -> list[float]:
    finetuner = Finetuner(make(), make_recipe(4, **others), loops=1, seed=seed)
    finetuner.finetune(make_images(20), VALIDATION, loop=0)
    return finetuner.train_loss


def test_a_seed_gives_one_run() -> None:
    assert losses(0, shift=2, flip=True) == losses(0, shift=2, flip=True)
    assert losses(0) != losses(1)
    assert losses(0, shift=2) != losses(0)


def test_dropout_follows_the_seed_and_not_the_global_state() -> None:
    def with_dropout() -> PVM:
        pvm = make_pvm()
        pvm.classifier.register_forward_pre_hook(
            lambda module, inputs: torch.nn.functional.dropout(inputs[0], 0.5, module.training)
        )
        return pvm

    first = losses(0, with_dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert losses(0, with_dropout) == first
    assert losses(0) != first

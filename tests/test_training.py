"""Exact step budgets, one cosine over all loops, frozen statistics, full and moved batches."""

import math
from collections.abc import Callable
from itertools import islice

import pytest
import torch
from small import make_pvm, seeded
from torch import Tensor

from vecaf_lib.data.images import ImageSet, ResizedImages
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import embed_pool, ridge_probe
from vecaf_lib.models.vision import PVM
from vecaf_lib.training import (
    Finetuner,
    LossPredictor,
    Recipe,
    augmented,
    crop_boxes,
    minibatches,
    move,
)

CLASSES = ("circle", "line", "dot")


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


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_without_a_number_is_told(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    calls = iter([1.0, loss])
    monkeypatch.setattr(
        "vecaf_lib.objective.cross_entropy",
        lambda scores, *_, **__: scores.sum(1) * 0 + next(calls),
    )
    finetuner = Finetuner(make_pvm(), make_recipe(3), loops=1, seed=0)
    with pytest.raises(BadInput, match=rf"loss is {loss} at step 2; .*learning_rate \(now 0.01\)"):
        finetuner.finetune(make_images(4), VALIDATION, loop=0)


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
    torch.testing.assert_close(evaluation[-1], embed_pool(pvm, VALIDATION.images)[0])
    positions = torch.cat([at for _, at in lifted])
    assert sorted(positions[:9].tolist()) == list(range(9))  # places in the selection


def test_gradients_are_clipped() -> None:
    def first_step(clip_norm: float | None, weight: float = 0.0) -> float:
        pvm = make_pvm()
        predictor = LossPredictor(pvm, seeded(0), weight=weight, detach_after=0.0)
        trained = [*pvm.parameters(), *predictor.parameters()]
        before = torch.cat([p.detach().flatten().clone() for p in trained])
        recipe = make_recipe(1, clip_norm=clip_norm, weight_decay=0.0, momentum=0.0)
        finetuner = Finetuner(pvm, recipe, loops=1, seed=0, loss_predictor=predictor)
        finetuner.finetune(make_images(4), VALIDATION, loop=0)
        after = torch.cat([p.detach().flatten() for p in trained])
        return float((after - before).norm())

    # rate times norm, of the PVM and, each by itself, of the loss predictor
    for weight, parts in ((0.0, 1), (1e3, 2)):
        free, clipped = first_step(None, weight), first_step(1e-3, weight)
        assert clipped == pytest.approx(0.01 * 1e-3 * parts**0.5, rel=0.05)
        assert free > 10 * clipped


def losses(seed: int, make: Callable[[], PVM] = make_pvm, **others: object) -> list[float]:
    finetuner = Finetuner(make(), make_recipe(4, **others), loops=1, seed=seed)
    finetuner.finetune(make_images(20), VALIDATION, loop=0)
    return finetuner.train_loss


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


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (7, 7), (3, 8), (1, 4), (50, 16)])
def test_every_sample_once_a_pass(size: int, batch_size: int) -> None:
    count = math.ceil(3 * size / batch_size)
    drawn = list(islice(minibatches(size, batch_size, seeded(0)), count))
    assert all(len(batch) == batch_size for batch in drawn)
    stream = torch.cat(drawn)
    passes = [stream[start : start + size].tolist() for start in range(0, 3 * size, size)]
    assert [sorted(one) for one in passes] == [list(range(size))] * 3
    if size > 6:
        assert passes[0] != passes[1]  # shuffled anew


@pytest.mark.parametrize(("size", "copies"), [(9, 3), (10, 3), (4, 2)])
def test_copies_in_a_pass(size: int, copies: int) -> None:
    stream = torch.cat([*islice(minibatches(size, 2, seeded(0), copies=copies), 20 * size)])
    for one in stream[: 20 * size].split(size):
        distinct, counts = one.unique_consecutive(return_counts=True)
        assert len(distinct) == len(distinct.unique()) == -(-size // copies)
        assert counts[:-1].tolist() == [copies] * (len(counts) - 1)
    assert stream.bincount().min() > 0  # each has its turn


@pytest.mark.parametrize("shift", [0, 2, 3])
def test_a_move_against_a_loop(shift: int) -> None:
    images = torch.randint(1, 256, (12, 3, 6, 5), generator=seeded(3)).to(torch.uint8)
    offsets = torch.randint(2 * shift + 1, (12, 2), generator=seeded(7))
    mirror = torch.arange(12) % 3 == 0
    expected = torch.zeros_like(images)
    for i in range(12):
        dy, dx = offsets[i].tolist()
        for row in range(6):
            for column in range(5):
                y, x = row + dy - shift, column + dx - shift
                if 0 <= y < 6 and 0 <= x < 5:
                    expected[i, :, row, 4 - column if mirror[i] else column] = images[i, :, y, x]
    assert torch.equal(move(images, offsets, mirror, shift), expected)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("shift", "flip"), [(0, False), (2, False), (0, True), (1, True)])
def test_batches_come_as_ordered_and_moved_as_drawn(lazy: bool, shift: int, flip: bool) -> None:
    images = torch.randint(0, 256, (9, 3, 8, 8), generator=seeded(1)).to(torch.uint8)
    given = ResizedImages(images, 8) if lazy else images
    order = list(islice(minibatches(9, 4, seeded(2)), 40))
    moves, mirrored, offsets = seeded(3), 0, set()
    recipe = make_recipe(shift=shift, flip=flip)
    batches = augmented(given, iter(order), recipe, generator=seeded(3))
    for expected_at, (at, batch) in zip(order, batches, strict=True):
        assert torch.equal(at, expected_at)
        by = torch.randint(2 * shift + 1, (4, 2), generator=moves)
        mirror = (torch.rand(4, generator=moves) < 0.5) & flip
        assert torch.equal(batch, move(images[at], by, mirror, shift))
        mirrored, offsets = mirrored + int(mirror.sum()), offsets | set(by.flatten().tolist())
    assert offsets == set(range(2 * shift + 1))
    assert (40 < mirrored < 120) if flip else mirrored == 0


@pytest.mark.parametrize("least", [0.08, 0.5, 1.0])
def test_the_boxes_of_random_resized_crops(least: float) -> None:
    boxes = crop_boxes(4000, 64, least, generator=seeded(0))
    assert torch.equal(boxes, crop_boxes(4000, 64, least, generator=seeded(0)))
    top, left, height, width = boxes.T
    assert (boxes >= 0).all()
    assert (top + height <= 64).all()
    assert (left + width <= 64).all()
    share, aspect = height * width / 64**2, width / height
    assert least - 0.03 < share.min()
    assert 0.7 < aspect.min() <= aspect.max() < 1.4
    if least == 1:  # the whole image, as nothing else fits
        assert (share > 0.97).all()
    else:
        assert share.min() < least + 0.02
        assert share.max() > 0.9
        # uniform but for the large ones that do not fit
        assert share.mean() == pytest.approx((least + 1) / 2, abs=0.06)
        assert aspect.log().mean() == pytest.approx(0, abs=0.02)
        free = height < 64
        place = top[free] / (64 - height[free])
        assert place.mean() == pytest.approx(0.5, abs=0.03)


def test_a_crop_is_the_box_at_the_size_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.linspace(0, 255, 48).round()
    image = rows[:, None].expand(3, 48, 48).to(torch.uint8)
    images, recipe = torch.stack([image, image.mT]), make_recipe(crop_scale=0.2)
    for box in ([0, 0, 48, 48], [12, 0, 24, 48], [0, 12, 48, 24]):
        boxes = torch.tensor([box, box])
        monkeypatch.setattr("vecaf_lib.training.crop_boxes", lambda *_, boxes=boxes, **__: boxes)
        _, cut = next(augmented(images, iter([torch.arange(2)]), recipe, generator=seeded(0)))
        for number, own in enumerate((cut[0, 0, :, 5], cut[1, 0, 5])):
            part = rows[box[number] : box[number] + box[2 + number]]
            expected = torch.linspace(float(part[0]), float(part[-1]), 48)
            assert (own - expected).abs().max() < (4 if len(part) < 48 else 1)


def test_crops_are_drawn_by_the_seed_and_each_anew() -> None:
    def batches(seed: int, **others: object) -> Tensor:
        recipe = make_recipe(crop_scale=0.2, **others)
        given = augmented(
            IMAGES, iter([torch.zeros(6, dtype=torch.int64)] * 2), recipe, generator=seeded(seed)
        )
        return torch.stack([images for _, images in given])

    IMAGES = torch.randint(0, 256, (2, 3, 32, 32), generator=seeded(1)).to(torch.uint8)
    first = batches(0)
    assert torch.equal(first, batches(0))
    assert not torch.equal(first, batches(1))
    assert len(first.flatten(0, 1).unique(dim=0)) == 12  # copies of one image
    assert not torch.equal(first, batches(0, flip=True))


def test_drop_path_follows_the_seed_and_changes_training() -> None:
    def dropping() -> PVM:
        return make_pvm("test_vit", drop_path_rate=0.5)

    assert losses(0, dropping) == losses(0, dropping)
    assert losses(0, dropping) != losses(0, lambda: make_pvm("test_vit"))


@pytest.mark.parametrize(("name", "value"), [("shift", 1), ("crop_scale", 0.5)])
@pytest.mark.parametrize("trainable", ["head", "last_blocks"])
def test_images_from_a_cache_cannot_be_moved(name: str, value: float, trainable: str) -> None:
    with pytest.raises(BadInput, match=rf"^{name} is {value}, .* trainable '{trainable}'.* cache"):
        make_recipe(trainable=trainable, **{name: value})


def test_a_head_start_is_the_probe_of_the_first_set() -> None:
    data = make_images(12)
    random, probe = (losses(0, head_start=start) for start in ("random", "probe"))
    assert probe[0] < 0.5 * random[0]
    finetuner = Finetuner(make_pvm(), make_recipe(2, head_start="probe"), loops=2, seed=0)
    finetuner.finetune(data, VALIDATION, loop=0)
    before = finetuner.pvm.classifier.weight.detach().clone()
    finetuner._fit_classifier = pytest.fail  # type: ignore[method-assign]
    finetuner.finetune(data, VALIDATION, loop=1)  # goes on from the first loop's
    assert not torch.equal(before, finetuner.pvm.classifier.weight)


def test_a_probe_fits_the_classifier_of_each_set_and_trains_nothing() -> None:
    pvm = make_pvm()
    before = {name: value.clone() for name, value in pvm.backbone.state_dict().items()}
    finetuner = Finetuner(pvm, make_recipe(8), loops=2, seed=0, probe=True)
    for loop, data in enumerate((make_images(9), make_images(12, seed=2))):
        finetuner.finetune(data, VALIDATION, loop=loop)
        e, _ = embed_pool(pvm, data.images)
        weight, bias = ridge_probe(e, data.labels, classes=3)
        assert torch.equal(pvm.classifier.weight, weight)
        assert torch.equal(pvm.classifier.bias, bias)
    after = pvm.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    report = finetuner.report()
    assert (report["steps"], report["train_loss"]) == (0, [])
    assert [point["step"] for point in report["curve"]] == [4, 8]
    assert report["validation_accuracy"] > 60

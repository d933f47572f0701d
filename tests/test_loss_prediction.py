"""The loss predictor: its two ranking losses, what it learns, and where its gradient goes."""

import math
from typing import Any

import pytest
import torch
from scipy.stats import kendalltau
from small import make_pvm, seeded
from torch import Tensor

from vecaf_lib.data.images import ImageSet
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import embed_pool, predicted_losses
from vecaf_lib.models.vision import feature_widths, features
from vecaf_lib.objective import MULTI_CLASS
from vecaf_lib.options import checked, schema_of
from vecaf_lib.training import Finetuner, LossPredictor, Recipe

CLASSES = ("a", "b", "c")
MODELS = pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
RANKINGS = pytest.mark.parametrize("ranking", ["margin", "logistic"])


def make_images(size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise of many brightnesses (n x 3 x 32 x 32), and the brightness of each."""
    draw = seeded(seed)
    brightness = torch.rand(size, generator=draw)
    noise = torch.randint(0, 60, (size, 3, 32, 32), generator=draw)
    return (noise + 190 * brightness.view(-1, 1, 1, 1)).to(torch.uint8), brightness


def make_predictor(**options: Any) -> LossPredictor:
    return LossPredictor(make_pvm(), seeded(1), **options)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# pairs of four: (0, 3) and (1, 2)
PREDICTED, LOSSES = torch.tensor([2.0, 0.0, 1.0, 3.0]), torch.tensor([1.0, 5.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (0.0 + 2.0) / 2),  # -1 is right and just far enough; -1 is wrong: 1 + 1
        ({"margin": 3.0}, (2.0 + 4.0) / 2),
        ({"ranking": "logistic"}, (softplus(-1) + softplus(1)) / 2),
    ],
)
def test_ranking_losses_by_hand(options: dict[str, Any], expected: float) -> None:
    predictor = make_predictor(**options)
    assert float(predictor.ranking_loss(PREDICTED, LOSSES)) == pytest.approx(expected)
    middle = [torch.cat([part[:2], torch.tensor([9.0]), part[2:]]) for part in (PREDICTED, LOSSES)]
    assert float(predictor.ranking_loss(*middle)) == pytest.approx(expected)  # has no partner
    assert float(predictor.ranking_loss(PREDICTED + 7, 3 * LOSSES)) == pytest.approx(expected)


@RANKINGS
def test_a_step_downhill_corrects_the_order_and_leaves_the_losses_alone(ranking: str) -> None:
    predictor = make_predictor(ranking=ranking)
    predicted, losses = (
        torch.zeros(2, requires_grad=True),
        torch.tensor([3.0, 1.0], requires_grad=True),
    )
    predictor.ranking_loss(predicted, losses).backward()
    assert predicted.grad is not None
    assert predicted.grad[0] < 0 < predicted.grad[1]  # the larger loss shall be predicted larger
    assert losses.grad is None


@RANKINGS
def test_equal_losses_are_pulled_apart_by_neither_and_one_image_makes_no_pair(ranking: str) -> None:
    predictor = make_predictor(ranking=ranking)
    predicted = torch.zeros(2, requires_grad=True)
    predictor.ranking_loss(predicted, torch.ones(2)).backward()
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [0.0, 0.0]
    assert float(predictor.ranking_loss(torch.ones(1), torch.ones(1))) == 0.0


@MODELS
def test_four_depths_are_averaged_mapped_to_128_and_joined(name: str) -> None:
    pvm = make_pvm(name).eval()
    predictor = LossPredictor(pvm, seeded(1))
    maps, _ = features(pvm, make_images(3)[0], 4)
    assert [layer.in_features for layer in predictor.reduce] == feature_widths(pvm, 4)
    assert [layer.out_features for layer in predictor.reduce] == [128] * 4
    by_hand = torch.cat(
        [
            (part.flatten(2).mean(2) @ layer.weight.T + layer.bias).clamp_min(0)
            for part, layer in zip(maps, predictor.reduce, strict=True)
        ],
        1,
    )
    expected = (by_hand @ predictor.predict.weight.T + predictor.predict.bias)[:, 0]
    assert predictor.predict.in_features == 512
    torch.testing.assert_close(predictor(maps), expected)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("detach_after", -0.1), ("detach_after", 1.1), ("weight", -1), ("margin", -1), ("depths", 0)],
)
def test_its_options_are_settings_and_a_value_out_of_range_is_refused(
    option: str, wrong: float
) -> None:
    schema = schema_of(LossPredictor, {"pvm", "generator", "ranking"}, "loss_predictor")
    defaults = {"depths": 4, "margin": 1.0, "weight": 1.0, "detach_after": 0.0}
    assert checked(schema, {}, "loss_predictor") == defaults
    with pytest.raises(BadInput, match=rf"^loss_predictor\.{option} is {wrong}; it should be"):
        checked(schema, {option: wrong}, "loss_predictor")


def test_no_more_depths_than_the_model_has() -> None:
    predictor = make_predictor(depths=40)
    assert predictor.depths == len(predictor.reduce) == 5


def make_set(size: int, seed: int = 0) -> ImageSet:
    """Dark images are all of class a; of bright ones, b or c cannot be predicted apart."""
    images, brightness = make_images(size, seed)
    coin = torch.randint(1, 3, (size,), generator=seeded(seed + 1))
    labels = torch.where(brightness < 0.5, 0, coin)
    return ImageSet(images, labels, tuple(str(i) for i in range(size)), CLASSES)


def finetuner(
    steps: int, name: str = "test_resnet", *, clip_norm: float | None = None, **options: Any
) -> Finetuner:
    pvm = make_pvm(name)
    recipe = Recipe(steps, batch_size=16, learning_rate=0.02, clip_norm=clip_norm)
    predictor = None if options.get("none") else LossPredictor(pvm, seeded(1), **options)
    return Finetuner(pvm, recipe, loops=1, seed=0, loss_predictor=predictor)


@MODELS
@RANKINGS
def test_trained_beside_the_model_it_ranks_the_losses_that_the_model_has(
    name: str, ranking: str
) -> None:
    tuner, unseen = finetuner(60, name, ranking=ranking), make_set(100, seed=5)

    def tau() -> float:
        losses = MULTI_CLASS.losses(embed_pool(tuner.pvm, unseen.images)[1], unseen.labels)
        predicted = predicted_losses(tuner.pvm, tuner.loss_predictor, unseen.images)  # type: ignore[arg-type]
        return float(kendalltau(predicted, losses).statistic)

    before = tau()
    tuner.finetune(make_set(100), make_set(2), loop=0)
    assert tau() > max(0.4, before + 0.3)


def weights(module: torch.nn.Module | None) -> Tensor:
    assert module is not None
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


@MODELS
@pytest.mark.parametrize(("share", "reaching"), [(0.0, 0), (0.5, 2), (0.6, 3), (1.0, 4)])
def test_its_gradient_stops_reaching_the_model_after_a_share_of_the_steps(
    name: str, share: float, reaching: int
) -> None:
    tuner, live = finetuner(4, name, detach_after=share), []
    assert tuner.loss_predictor is not None
    tuner.loss_predictor.register_forward_pre_hook(
        lambda module, inputs: live.append([part.requires_grad for part in inputs[0]])
    )
    start = weights(tuner.loss_predictor)
    tuner.finetune(make_set(20), make_set(2), loop=0)
    training = live[:4]
    assert training == [[step < reaching] * 4 for step in range(4)]
    assert not torch.equal(weights(tuner.loss_predictor), start)  # it goes on learning itself


@MODELS
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_detached_it_leaves_the_gradient_of_the_model_as_it_is_without_it(
    name: str, clip_norm: float | None
) -> None:
    """Clipping too: were it joint, the predictor's gradient would shrink the model's."""
    gradients = {}
    for key, options in {
        "alone": {"none": True},
        "detached": {"weight": 5.0},
        "attached": {"weight": 5.0, "detach_after": 1.0},
    }.items():
        tuner = finetuner(1, name, clip_norm=clip_norm, **options)
        tuner.finetune(make_set(20), make_set(2), loop=0)
        parts = [p.grad.flatten() for p in tuner.pvm.parameters() if p.grad is not None]
        gradients[key] = torch.cat(parts)
    alone = gradients["alone"]
    torch.testing.assert_close(gradients["detached"], alone, rtol=1e-4, atol=1e-6)
    assert (gradients["attached"] - alone).norm() > 0.1 * alone.norm()


@MODELS
def test_the_model_is_moved_by_it_the_more_the_larger_its_weight(name: str) -> None:
    ends = []
    for weight in (0.0, 1.0, 5.0):
        tuner = finetuner(3, name, detach_after=1.0, weight=weight)
        tuner.finetune(make_set(20), make_set(2), loop=0)
        ends.append(weights(tuner.pvm))
    moved = [(end - ends[0]).norm() for end in ends[1:]]
    assert 1e-3 < moved[0] < moved[1]

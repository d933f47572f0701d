"""Finetune a PVM, and a rival's loss predictor beside it, for an exact number of steps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float, Int64, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.modules.batchnorm import _BatchNorm

from vecaf_lib.cea import Lift
from vecaf_lib.data.images import ImageSet, LazyImages, ahead, resized
from vecaf_lib.devices import rank_and_size, share
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import embed_pool, measure, ridge_probe
from vecaf_lib.models.trunk import StoredStates, Trainable
from vecaf_lib.models.vision import PVM, feature_widths
from vecaf_lib.objective import MULTI_CLASS, Objective
from vecaf_lib.options import BelowOne, Count, NotNegative, Positive, Share, Whole
from vecaf_lib.seeding import generator

ASPECT, TRIES = 4 / 3, 10  # RandomResizedCrop's in torchvision and DeiT
HIDDEN = 128  # of the loss predictor


@dataclass(frozen=True)
class Recipe:
    """How to finetune by SGD; section 4.1 gives the paper's values, the profiles each size's."""

    steps: Count  # over all loops, the paper's "training batches"
    batch_size: Annotated[int, Field(ge=2, multiple_of=2)]  # images a step, over all processes
    learning_rate: Positive  # before the cosine decay to 0 over all loops
    warm_up: Whole = 0  # steps in which the rate rises linearly, as the classifier is random then
    weight_decay: NotNegative = 1e-4
    momentum: BelowOne = 0.9
    label_smoothing: BelowOne = 0.0
    clip_norm: Positive | None = None  # largest gradient norm, of the PVM and of a loss predictor
    freeze_batchnorm_statistics: bool = True  # a few small batches cannot estimate them
    trainable: Trainable = "all"  # the rest is frozen, and its output comes from a cache
    blocks: Count = 1  # how many, with last_blocks
    head_start: Literal["random", "probe"] = "random"  # the classifier; see ``ridge_probe``
    drop_path: BelowOne = 0.0  # stochastic depth of the last block, less before it
    shift: Whole = 0  # random translation in pixels, zero padded
    crop_scale: Share | None = None  # least share of the area in RandomResizedCrop; None: no crop
    flip: bool = False  # random horizontal mirror
    repeated_augmentation: Count = 1  # copies of an image in an epoch, each moved anew
    restart_each_loop: bool = False  # cosine and momentum anew in each loop (not the paper's)
    evaluate_every: Count = 10  # steps between two validations; the last step is always one

    def __post_init__(self) -> None:
        for name, none in {"shift": 0, "crop_scale": None}.items():
            if self.trainable != "all" and (value := getattr(self, name)) != none:
                raise BadInput(
                    f"{name} is {value}, but with trainable {self.trainable!r} images come from a "
                    f"cache, where they cannot be moved; leave {name} out, or train all."
                )


class LossPredictor(nn.Module):
    """Feature maps of ``depths`` depths to one predicted loss an image (LearnLoss, section 3.2).

    Yoo and Kweon, CVPR 2019: maps are pooled, each goes through a fully connected layer of 128 and
    a ReLU, a last layer joins them. As losses shrink in training, it learns to rank pairs.
    """

    def __init__(
        self,
        pvm: PVM,
        generator: torch.Generator,
        *,
        ranking: Literal["margin", "logistic"] = "margin",
        depths: Count = 4,
        margin: NotNegative = 1.0,
        weight: NotNegative = 1.0,
        detach_after: Annotated[float, Field(ge=0, le=1)] = 0.0,
    ):
        """Draw the layers from ``generator``; all defaults but ``detach_after`` are theirs.

        Args:
            margin: xi, by which the larger predicted loss must exceed the smaller.
            weight: of its loss beside the objective's.
            detach_after: share of all steps after which its gradient no longer reaches the PVM;
                with 0 that is trained as without. Theirs is 0.6, of 200 epochs from scratch: in few
                steps from pretrained weights the PVM then falls to one class.
        """
        super().__init__()
        self.weight, self.detach_after = weight, detach_after
        self.ranking, self.margin = ranking, margin
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            widths = feature_widths(pvm, depths)
            self.depths = len(widths)  # fewer where there are fewer, as behind a frozen trunk
            self.reduce = nn.ModuleList(nn.Linear(width, HIDDEN) for width in widths)
            self.predict = nn.Linear(self.depths * HIDDEN, 1)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> Float[Tensor, " b"]:
        """Predicted losses; only their order is trained."""
        pooled = [part.float().mean((2, 3)) for part in maps]  # (b, c) each
        hidden = [layer(p).relu() for layer, p in zip(self.reduce, pooled, strict=True)]
        return self.predict(torch.cat(hidden, 1)).squeeze(1)

    def ranking_loss(
        self, predicted: Float[Tensor, " b"], losses: Float[Tensor, " b"]
    ) -> Float[Tensor, ""]:
        """How badly pairs are ranked, image i against image b - 1 - i; a mean over pairs.

        Margin: max(0, xi - sign(l_i - l_j) (lhat_i - lhat_j)), l the losses, lhat the predicted.
        Logistic: the cross-entropy of sigmoid(lhat_i - lhat_j) against "l_i is the larger".
        """
        half = len(predicted) // 2
        difference = predicted[:half] - predicted.flip(0)[:half]
        order = (losses[:half] - losses.flip(0)[:half]).detach().sign()
        if self.ranking == "logistic":
            terms = binary_cross_entropy_with_logits(difference, (order + 1) / 2, reduction="none")
        else:
            terms = (self.margin - order * difference).clamp_min(0)
        return terms.sum() / max(1, half)


class Finetuner:
    """What lives across loops: model, loss predictor, optimiser, schedule, losses, curve."""

    def __init__(
        self,
        pvm: PVM,
        recipe: Recipe,
        *,
        loops: int,
        seed: int,
        objective: Objective = MULTI_CLASS,
        loss_predictor: LossPredictor | None = None,
        probe: bool = False,
    ):
        """Prepare the optimiser; with ``probe`` each loop fits a ``ridge_probe`` in its place."""
        self.recipe, self.seed, self.objective, self.probe = recipe, seed, objective, probe
        self.ends = [recipe.steps * (loop + 1) // loops for loop in range(loops)]  # exact budget
        self.accelerator = Accelerator()
        sgd = torch.optim.SGD(
            [*pvm.parameters(), *(loss_predictor.parameters() if loss_predictor else ())],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.pvm, self.optimizer = self.accelerator.prepare(pvm, sgd)
        self.loss_predictor = loss_predictor and self.accelerator.prepare(loss_predictor)
        self.depths = loss_predictor.depths if loss_predictor else 0
        self.train_loss: list[float] = []
        self.curve: list[dict[str, float]] = []

    def finetune(
        self, selected: ImageSet, validation: ImageSet, *, loop: int, lift: Lift | None = None
    ) -> None:
        """Lines 8 to 12 of Algorithm 1 for this loop's steps; ``lift`` augments the live e."""
        recipe, device = self.recipe, self.accelerator.device
        if self.probe or (loop == 0 and recipe.head_start == "probe"):
            self._fit_classifier(selected)
        if self.probe:
            self._validate(validation, self.ends[loop])
            return
        if recipe.restart_each_loop:
            self.optimizer.state.clear()
        copies, stream = recipe.repeated_augmentation, generator(self.seed, "order", loop)
        order = minibatches(len(selected), recipe.batch_size, stream, copies=copies)
        moves = generator(self.seed, "augmentation", loop)
        batches = augmented(selected.inputs, order, recipe, generator=moves)
        batches = ahead(batches) if isinstance(selected.inputs, LazyImages) else batches
        rank, _ = rank_and_size()  # each process drops other units
        names = ("dropout", loop, rank) if rank else ("dropout", loop)
        with torch.random.fork_rng():  # dropout and drop-path draw from the global state
            torch.manual_seed(generator(self.seed, *names).initial_seed())
            for step in range(len(self.train_loss), self.ends[loop]):
                for part in self.pvm.train().modules():
                    if recipe.freeze_batchnorm_statistics and isinstance(part, _BatchNorm):
                        part.eval()
                for group in self.optimizer.param_groups:
                    group["lr"] = self._learning_rate(step, loop)
                at, images = next(batches)
                augment: Any = None if lift is None else lambda e, at=at: lift(e, at)
                scores = self.pvm(images.to(device), augment, self.depths)
                scores, maps = scores if self.depths else (scores, [])
                losses = self.objective.losses(
                    scores, selected.labels[at].to(device), label_smoothing=recipe.label_smoothing
                )
                loss = losses.mean()
                value = float(self.accelerator.reduce(loss.detach(), "mean"))  # of all processes
                if not math.isfinite(value):
                    raise BadInput(
                        f"training: the loss is {value} at step {step + 1}; "
                        f"lower training.learning_rate (now {recipe.learning_rate:g})."
                    )
                self.train_loss.append(value)
                if self.loss_predictor is not None:
                    inner: Any = getattr(self.loss_predictor, "module", self.loss_predictor)
                    if step >= inner.detach_after * recipe.steps:
                        maps = [part.detach() for part in maps]
                    predicted = self.loss_predictor(maps)
                    loss = loss + inner.weight * inner.ranking_loss(predicted, losses.detach())
                self.optimizer.zero_grad()
                self.accelerator.backward(loss)
                for part in filter(None, (self.pvm, self.loss_predictor)):
                    if recipe.clip_norm is not None:
                        self.accelerator.clip_grad_norm_(part.parameters(), recipe.clip_norm)
                self.optimizer.step()
                if (step + 1) % recipe.evaluate_every == 0 or step + 1 == recipe.steps:
                    self._validate(validation, step + 1)

    def _fit_classifier(self, selected: ImageSet) -> None:
        """Make the classifier a ridge probe of plain embeddings, the same in every process."""
        e, _ = embed_pool(self.pvm, selected.inputs)
        classes = len(selected.class_names)
        classifier: Any = getattr(self.pvm, "module", self.pvm).classifier
        fitted = ridge_probe(e, selected.labels, classes=classes)
        with torch.no_grad():
            for parameter, value in zip(classifier.parameters(), fitted, strict=True):
                parameter.copy_(value)

    def _validate(self, validation: ImageSet, step: int) -> None:
        accuracy = measure(self.pvm, validation, self.objective)["accuracy"]
        self.curve.append({"step": step, "validation_accuracy": accuracy})

    def _learning_rate(self, step: int, loop: int) -> float:
        """Cosine decay from the recipe's rate to 0, over all loops or this one, after a warm-up."""
        restart = self.recipe.restart_each_loop
        begin, end = ([0, *self.ends][loop], self.ends[loop]) if restart else (0, self.ends[-1])
        cosine = 1 + math.cos(math.pi * (step - begin) / (end - begin))
        warm_up = min(1.0, (step + 1) / max(1, self.recipe.warm_up))
        return self.recipe.learning_rate * cosine / 2 * warm_up

    def report(self) -> dict[str, Any]:
        """Steps, batch size, losses by step, validation curve and its last point."""
        return {
            "steps": len(self.train_loss),
            "batch_size": self.recipe.batch_size,
            "train_loss": self.train_loss,
            "curve": self.curve,
            "validation_accuracy": self.curve[-1]["validation_accuracy"],
        }


def minibatches(
    size: int, batch_size: int, generator: torch.Generator, *, copies: int = 1
) -> Iterator[Int64[Tensor, " b"]]:
    """Endless full batches of indices below ``size``, from shuffled passes, across their ends.

    A pass has ``size`` indices: with ``copies`` a part of them, each so many times in a row, as in
    DeiT's repeated augmentation (Hoffer et al., CVPR 2020).
    """
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < batch_size:
            shuffled = torch.randperm(size, generator=generator)
            waiting = torch.cat([waiting, shuffled.repeat_interleave(copies)[:size]])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def augmented(
    images: Any, order: Iterator[Tensor], recipe: Recipe, *, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's part of each batch: indices (b), and images, moved alike in any process."""
    for batch in order:
        count, at = len(batch), share(batch)
        offsets = torch.randint(2 * recipe.shift + 1, (count, 2), generator=generator)
        mirror = share((torch.rand(count, generator=generator) < 0.5) & recipe.flip)
        if isinstance(images, StoredStates):
            yield at, images.read(at, mirror)
            continue
        moved = move(images[at], share(offsets), mirror, recipe.shift)
        if recipe.crop_scale is not None:
            side = moved.shape[-1]
            boxes = share(crop_boxes(count, side, recipe.crop_scale, generator=generator))
            parts = zip(moved.split(1), boxes.tolist(), strict=True)
            cut = (x[..., i : i + h, j : j + w] for x, (i, j, h, w) in parts)
            moved = torch.cat([resized(part, side) for part in cut])
        yield at, moved


def move(
    images: UInt8[Tensor, "b 3 h w"], offsets: Tensor, mirror: Bool[Tensor, " b"], shift: int
) -> UInt8[Tensor, "b 3 h w"]:
    """Move images by ``offsets`` (b x 2) - ``shift`` pixels (zeros enter), mirror the marked."""
    if shift:
        padded = nn.functional.pad(images, [shift] * 4)  # (b, 3, h+2s, w+2s)
        windows = padded.unfold(2, images.shape[2], 1).unfold(3, images.shape[3], 1)
        images = windows[torch.arange(len(images)), :, *offsets.T]  # of (b, 3, 2s+1, 2s+1, h, w)
    if mirror.any():
        images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    return images


def crop_boxes(
    count: int, side: int, least: float, *, generator: torch.Generator
) -> Int64[Tensor, "b 4"]:
    """RandomResizedCrop's boxes (top, left, height, width) in squares of ``side`` px.

    Area uniform in ``least`` to 1, aspect log-uniform in 3/4 to 4/3; the first of ten draws that
    fits into the image, else the whole of it (Szegedy et al., CVPR 2015). As torchvision has it,
    which draws from the global state: so does dropout, in another thread.
    """
    area = least + (1 - least) * torch.rand(count, TRIES, generator=generator)
    aspect = ASPECT ** (2 * torch.rand(count, TRIES, generator=generator) - 1)
    sizes = side * torch.stack([area / aspect, area * aspect], 2).sqrt()  # (b, tries, 2)
    sizes = sizes.round().clamp_min(1)
    fits = (sizes <= side).all(2)
    first = sizes[torch.arange(count), fits.int().argmax(1)]  # (b, 2)
    size = torch.where(fits.any(1, keepdim=True), first, side)
    corner = (torch.rand(count, 2, generator=generator) * (side - size + 1)).floor()
    return torch.cat([corner, size], 1).long()

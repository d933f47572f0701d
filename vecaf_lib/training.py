"""Finetune a PVM for an exact number of steps, and look at a set of images through it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vecaf_lib.cea import Lift
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.seeding import generator


@dataclass(frozen=True)
class Recipe:
    """How to finetune; section 4.1 gives the paper's values, the profiles give each size's.

    Attributes:
        steps: optimiser steps over all loops, the paper's "training batches".
        batch_size: images a step.
        learning_rate: SGD's, before the cosine decay to 0 over all loops.
        weight_decay: SGD's.
        momentum: SGD's.
        label_smoothing: of the cross-entropy.
        clip_norm: largest gradient norm; None does not clip.
        freeze_batchnorm_statistics: keep the pretrained means and variances; a few small batches
            cannot estimate them.
        shift: random translation in pixels, zero padded.
        flip: random horizontal mirror.
        restart_each_loop: begin the cosine and the momentum anew in each loop (not the paper's).
        evaluate_every: steps between two validations; the last step is always one.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-4
    momentum: float = 0.9
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    freeze_batchnorm_statistics: bool = True
    shift: int = 0
    flip: bool = False
    restart_each_loop: bool = False
    evaluate_every: int = 10


class Finetuner:
    """The state that lives across loops: model, optimiser, schedule, losses, validation curve."""

    def __init__(self, pvm: PVM, recipe: Recipe, *, loops: int, seed: int):
        self.recipe, self.seed = recipe, seed
        self.ends = [recipe.steps * (loop + 1) // loops for loop in range(loops)]  # exact budget
        self.accelerator = Accelerator()
        sgd = torch.optim.SGD(
            pvm.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.pvm, self.optimizer = self.accelerator.prepare(pvm, sgd)
        self.train_loss: list[float] = []
        self.curve: list[dict[str, float]] = []

    def _learning_rate(self, step: int, loop: int) -> float:
        """Cosine decay from the recipe's rate to 0, over all loops or over this one."""
        first, last = 0, self.recipe.steps
        if self.recipe.restart_each_loop:
            first, last = [0, *self.ends][loop], self.ends[loop]
        return (
            self.recipe.learning_rate
            * (1 + math.cos(math.pi * (step - first) / (last - first)))
            / 2
        )

    def finetune(
        self, chosen: ImageSet, validation: ImageSet, *, loop: int, lift: Lift | None = None
    ) -> None:
        """Train on ``chosen`` for this loop's share of the steps (Algorithm 1, lines 8 to 12).

        Args:
            chosen: the selected images.
            validation: measured every ``evaluate_every`` steps and after the last.
            loop: 0, 1, ...: which share of the step budget, and which random streams.
            lift: augments the embeddings of a batch; e stays live, gradients reach the PVM.

        Raises:
            BadInput: the loss is NaN or infinite.
        """
        recipe, device = self.recipe, self.accelerator.device
        if recipe.restart_each_loop:
            self.optimizer.state.clear()
        order = batches(len(chosen), recipe.batch_size, generator(self.seed, "order", loop))
        noise = generator(self.seed, "augmentation", loop)
        with torch.random.fork_rng():  # dropout and drop-path draw from the global state
            torch.manual_seed(generator(self.seed, "dropout", loop).initial_seed())
            for step in range(len(self.train_loss), self.ends[loop]):
                set_training(self.pvm, recipe.freeze_batchnorm_statistics)
                for group in self.optimizer.param_groups:
                    group["lr"] = self._learning_rate(step, loop)
                at = next(order)
                images = jitter(chosen.images[at], recipe.shift, recipe.flip, generator=noise)
                move: Any = None if lift is None else lambda e, at=at: lift(e, at)
                scores = self.pvm(images.to(device), move)
                target = chosen.labels[at].to(device)
                loss = cross_entropy(scores, target, label_smoothing=recipe.label_smoothing)
                if not math.isfinite(loss.item()):
                    raise BadInput(
                        f"training: the loss is {loss.item()} at step {step + 1}; lower "
                        f"training.learning_rate (now {recipe.learning_rate:g})."
                    )
                self.optimizer.zero_grad()
                self.accelerator.backward(loss)
                if recipe.clip_norm is not None:
                    self.accelerator.clip_grad_norm_(self.pvm.parameters(), recipe.clip_norm)
                self.optimizer.step()
                self.train_loss.append(loss.item())
                done = step + 1
                if done % recipe.evaluate_every == 0 or done == recipe.steps:
                    point = {"step": done, "validation_accuracy": accuracy(self.pvm, validation)}
                    self.curve.append(point)

    def report(self) -> dict[str, Any]:
        """What training itself tells: budget, losses by step, validation curve and last point."""
        return {
            "steps": self.recipe.steps,
            "batch_size": self.recipe.batch_size,
            "train_loss": self.train_loss,
            "curve": self.curve,
            "validation_accuracy": self.curve[-1]["validation_accuracy"],
        }


def set_training(pvm: nn.Module, freeze_batchnorm_statistics: bool) -> None:
    """Training mode, with batch-norm layers left to their stored statistics if so wished."""
    pvm.train()
    if freeze_batchnorm_statistics:
        for module in pvm.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def batches(size: int, batch_size: int, draw: torch.Generator) -> Iterator[Int64[Tensor, " b"]]:
    """Endless batches from shuffled passes over ``size`` samples.

    A batch may cross from one pass into the next, so that every batch is full even where the
    selection is smaller than a batch (the paper's 1 % of Caltech-101 against a batch of 256).
    """
    waiting = torch.empty(0, dtype=torch.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(size, generator=draw)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def jitter(
    images: UInt8[Tensor, "b 3 h w"], shift: int, flip: bool, *, generator: torch.Generator
) -> UInt8[Tensor, "b 3 h w"]:
    """Shift each image by up to ``shift`` pixels each way (zeros enter); mirror half of them."""
    count, _, height, width = images.shape
    if shift:
        dy, dx = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)
        padded = nn.functional.pad(images, [shift] * 4)  # (b, 3, h+2s, w+2s)
        rows = dy + torch.arange(height)  # (b, h)
        columns = dx + torch.arange(width)  # (b, w)
        each = torch.arange(count)[:, None, None]  # (b, 1, 1)
        moved = padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
        images = moved.permute(0, 3, 1, 2)  # (b, 3, h, w)
    if flip:
        mirror = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
        images = torch.where(mirror, images.flip(3), images)
    return images


@torch.inference_mode()
def look(
    pvm: nn.Module, images: UInt8[Tensor, "n 3 h w"], *, batch_size: int = 250
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Embeddings and class scores in evaluation mode, without any augmentation, on the CPU."""
    pvm.eval()
    inner: Any = getattr(pvm, "module", pvm)  # a model wrapped for several processes
    device = next(inner.parameters()).device
    embeddings = [inner.embed(part.to(device)) for part in images.split(batch_size)]
    scores = [inner.classifier(e) for e in embeddings]
    return torch.cat(embeddings).float().cpu().clone(), torch.cat(scores).float().cpu().clone()


def accuracy(pvm: nn.Module, data: ImageSet) -> float:
    """Top-1 accuracy in percent on plain embeddings."""
    _, scores = look(pvm, data.images)
    return 100 * float((scores.argmax(1) == data.labels).double().mean())

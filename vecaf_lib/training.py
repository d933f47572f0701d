"""Finetune a PVM for an exact number of steps."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vecaf_lib.batches import batches, show
from vecaf_lib.cea import Lift
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.distribution import rank_and_size
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.errors import BadInput
from vecaf_lib.evaluation import measure
from vecaf_lib.loss_prediction import LossPredictor
from vecaf_lib.objective import MULTI_CLASS, Objective
from vecaf_lib.seeding import generator


@dataclass(frozen=True)
class Recipe:
    """How to finetune; section 4.1 gives the paper's values, the profiles give each size's.

    Attributes:
        steps: optimiser steps over all loops, the paper's "training batches".
        batch_size: images a step, over all processes.
        learning_rate: SGD's, before the cosine decay to 0 over all loops.
        warm_up: first steps in which the rate rises linearly to its cosine, since the classifier is
            random at first; 0 as in the paper, which tells of none.
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
    warm_up: int = 0
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

    def __init__(
        self,
        pvm: PVM,
        recipe: Recipe,
        *,
        loops: int,
        seed: int,
        objective: Objective = MULTI_CLASS,
        predictor: LossPredictor | None = None,
    ):
        """Make the optimiser.

        Args:
            pvm: f(.; w).
            recipe: how to finetune.
            loops: L.
            seed: of the run.
            objective: L(., .) that is minimised.
            predictor: trained beside the model, by the same optimiser, to rank its losses.
        """
        self.recipe, self.seed, self.objective = recipe, seed, objective
        self.ends = [recipe.steps * (loop + 1) // loops for loop in range(loops)]  # exact budget
        self.accelerator = Accelerator()
        parameters = [*pvm.parameters(), *(predictor.parameters() if predictor else ())]
        sgd = torch.optim.SGD(
            parameters,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.pvm, self.optimizer = self.accelerator.prepare(pvm, sgd)
        self.predictor = None if predictor is None else self.accelerator.prepare(predictor)
        self.depths = 0 if predictor is None else predictor.depths
        self.train_loss: list[float] = []
        self.curve: list[dict[str, float]] = []

    def _learning_rate(self, step: int, loop: int) -> float:
        """Cosine decay from the recipe's rate to 0, over all loops or this one, after a warm-up."""
        first, last = 0, self.recipe.steps
        if self.recipe.restart_each_loop:
            first, last = [0, *self.ends][loop], self.ends[loop]
        return (
            self.recipe.learning_rate
            * (1 + math.cos(math.pi * (step - first) / (last - first)))
            / 2
            * min(1.0, (step + 1) / max(1, self.recipe.warm_up))
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
        shown = show(chosen.images, order, shift=recipe.shift, flip=recipe.flip, generator=noise)
        with torch.random.fork_rng():  # dropout and drop-path draw from the global state
            torch.manual_seed(self._dropout_seed(loop))
            for step in range(len(self.train_loss), self.ends[loop]):
                set_training(self.pvm, recipe.freeze_batchnorm_statistics)
                for group in self.optimizer.param_groups:
                    group["lr"] = self._learning_rate(step, loop)
                at, images = next(shown)
                move: Any = None if lift is None else lambda e, at=at: lift(e, at)
                scores = self.pvm(images.to(device), move, self.depths)
                scores, maps = scores if self.depths else (scores, [])
                target = chosen.labels[at].to(device)
                losses = self.objective.losses(
                    scores, target, label_smoothing=recipe.label_smoothing
                )
                loss = losses.mean()
                self._record(loss)
                if self.predictor is not None:
                    loss = loss + self._ranking(maps, losses, step)
                self.optimizer.zero_grad()
                self.accelerator.backward(loss)
                if recipe.clip_norm is not None:
                    self.accelerator.clip_grad_norm_(self.pvm.parameters(), recipe.clip_norm)
                self.optimizer.step()
                done = step + 1
                if done % recipe.evaluate_every == 0 or done == recipe.steps:
                    self._validate(done, validation)

    def _ranking(self, maps: list[Tensor], losses: Tensor, step: int) -> Tensor:
        """What the loss predictor's error adds to the loss; this process ranks its own part."""
        inner: Any = getattr(self.predictor, "module", self.predictor)
        if step >= inner.detach_after * self.recipe.steps:
            maps = [part.detach() for part in maps]
        told = self.predictor(maps)  # type: ignore[misc]
        return inner.weight * inner.ranking_loss(told, losses.detach())

    def _validate(self, step: int, validation: ImageSet) -> None:
        told = measure(self.pvm, validation, self.objective)["accuracy"]
        self.curve.append({"step": step, "validation_accuracy": told})

    def _dropout_seed(self, loop: int) -> int:
        """Of this process: each drops other units."""
        rank, _ = rank_and_size()
        return generator(self.seed, "dropout", loop, *([rank] if rank else [])).initial_seed()

    def _record(self, loss: Tensor) -> None:
        """Keep the loss of the global batch; refuse one that is no number."""
        value = float(self.accelerator.reduce(loss.detach(), "mean"))
        if not math.isfinite(value):
            raise BadInput(
                f"training: the loss is {value} at step {len(self.train_loss) + 1}; lower "
                f"training.learning_rate (now {self.recipe.learning_rate:g})."
            )
        self.train_loss.append(value)

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

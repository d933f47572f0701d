"""Algorithm 1: vision-language collaborative active finetuning; every rival runs through it too.

Line numbers are the paper's. A rival is the same loop with another ``select`` and no CEA.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vecaf_lib.cea import Augmentation
from vecaf_lib.datasets.images import ImageSet
from vecaf_lib.encoders.vision import PVM
from vecaf_lib.evaluation import measure
from vecaf_lib.loss_prediction import LossPredictor
from vecaf_lib.objective import MULTI_CLASS, Objective
from vecaf_lib.observation import describe, observe, show_pool
from vecaf_lib.official import OfficialAugmentation
from vecaf_lib.probe import FirstLosses
from vecaf_lib.seeding import generator
from vecaf_lib.training import Finetuner, Recipe


def active_finetuning(
    pvm: PVM,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
    *,
    select: Callable[..., Tensor],
    needs: frozenset[str],
    cea: Augmentation | OfficialAugmentation | None,
    budget: int,
    loops: int,
    multi_run: bool,
    recipe: Recipe,
    seed: int,
    first_losses: FirstLosses = "uniform",
    first_embeddings: Tensor | None = None,
    accumulate: bool = False,
    objective: Objective = MULTI_CLASS,
    predictor: LossPredictor | None = None,
    cold_start: bool = False,
) -> dict[str, Any]:
    """Finetune ``pvm`` on selections of ``budget`` samples of ``train`` and report on it.

    Args:
        pvm: f(.; w), pretrained, with a fresh classifier; finetuned in place.
        train: the labelled pool D.
        validation: measured along the way.
        test: measured once, after the last step.
        select: the method; see ``vecaf_lib.selection``.
        needs: what the method must be told of the pool.
        cea: equations 8 and 9 for the text embeddings of this pool (lines 4 and 5 are done
            beforehand, since the language encoder is frozen), or None.
        budget: K.
        loops: L; each has an equal share of ``recipe.steps``.
        multi_run: a fresh selection in every loop; otherwise the first one serves all.
        recipe: steps, batch size, optimiser.
        seed: of this run; selection, order, augmentation and initialisation draw from streams of
            their own.
        first_losses: what stands for the losses while the classifier is still random.
        first_embeddings: e_i (N x d) of the pretrained model, if they are at hand; saves the first
            loop's pass over the pool.
        accumulate: finetune on all selections so far, not on the fresh one alone (not the paper's).
        objective: L, multi-class or 1-vs-all.
        predictor: a rival's loss predictor, finetuned along.
        cold_start: the method can only choose at random at first; its single run is then the
            selection of the second loop.

    Returns:
        JSON-able results: last-step test accuracy in percent, curves, and what each loop chose.
    """
    finetuner = Finetuner(
        pvm, recipe, loops=loops, seed=seed, objective=objective, predictor=predictor
    )
    wanted = needs | {"embeddings"} if cea else needs
    chosen = labelled = torch.empty(0, dtype=torch.int64)
    told: list[dict[str, Any]] = []
    record: dict[str, Any]
    for loop in range(loops):  # line 1
        selects = multi_run or loop <= cold_start
        asked = wanted if selects or cea else frozenset()
        first, known = (first_losses, first_embeddings) if loop == 0 else (None, None)
        seen = observe(finetuner, train, asked, first=first, known=known)
        e, record = seen.embeddings, {}
        if selects:
            visible = cea.pool(e) if cea and e is not None else e
            pool = show_pool(finetuner.pvm, train, needs, seen, visible, labelled)
            stream = generator(seed, "selection", loop)
            fresh = select(pool, budget, generator=stream, record=record)  # lines 2 and 3
            labelled = torch.cat([labelled, fresh]).unique()
            chosen = labelled if accumulate and loop else fresh
        lift = cea.fit(e, chosen) if cea and e is not None else None  # lines 4 to 7
        finetuner.finetune(train.subset(chosen), validation, loop=loop, lift=lift)  # 8 to 13
        told.append(describe(loop, seen, train, chosen, record, cea))
    tested = measure(finetuner.pvm, test, objective)  # line 15
    return finetuner.report() | {
        "budget": budget,
        "test_accuracy": tested["accuracy"],
        "test": tested,
        "loops": told,
    }

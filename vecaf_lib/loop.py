"""Algorithm 1 by the paper's line numbers; a rival is another ``select`` and no CEA."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from vecaf_lib.cea import Augmentation
from vecaf_lib.data.images import ImageSet
from vecaf_lib.evaluation import FirstLosses, measure
from vecaf_lib.models.vision import PVM
from vecaf_lib.objective import MULTI_CLASS, Objective
from vecaf_lib.observation import Observation, describe, make_pool, observe
from vecaf_lib.seeding import generator
from vecaf_lib.training import Finetuner, LossPredictor, Recipe


def active_finetuning(
    pvm: PVM,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
    *,
    select: Callable[..., Tensor],
    needs: frozenset[str],
    cea: Augmentation | None,
    budget: int,
    loops: int,
    multi_run: bool,
    recipe: Recipe,
    seed: int,
    first_losses: FirstLosses = "uniform",
    pretrained_embeddings: Tensor | None = None,
    sets: Literal["fresh", "kept"] = "fresh",
    objective: Objective = MULTI_CLASS,
    selection_objective: Objective | None = None,
    loss_predictor: LossPredictor | None = None,
    cold_start: bool = False,
    probe: bool = False,
) -> dict[str, Any]:
    """Finetune ``pvm``, with its fresh classifier, in place on selections of the labelled pool D.

    Args:
        select: the method, given the fields of ``Pool`` in ``needs``; see ``vecaf_lib.selection``.
        cea: equations 8 and 9 for the text embeddings of this pool, or None.
        loops: L; each has an equal share of ``recipe.steps``.
        multi_run: a fresh selection in every loop; otherwise the set of the first loop serves all.
        seed: of the streams of selection, order and augmentation, each its own.
        first_losses: what stands for the losses in the first loop, where the classifier is random.
        pretrained_embeddings: e_i (N x d) before any finetuning, where they are at hand.
        sets: a loop finetunes on its ``fresh`` set alone, as Algorithm 1 prints it, or on all sets,
            which are ``kept``, no sample chosen twice, as the released CIFAR scripts do.
        selection_objective: of the losses that selection sees, where it is not ``objective``.
        loss_predictor: a rival's, finetuned along.
        cold_start: the method's first set is random; a single run keeps that of the second loop.
        probe: in place of finetuning the classifier becomes a ridge probe of frozen embeddings.

    Returns:
        JSON-able: test accuracy in percent after the last step, curves, and what each loop chose.
    """
    finetuner = Finetuner(
        pvm,
        recipe,
        loops=loops,
        seed=seed,
        objective=objective,
        loss_predictor=loss_predictor,
        probe=probe,
    )
    selecting_loops = loops if multi_run else 1 + cold_start
    selection = fresh = labelled = torch.empty(0, dtype=torch.int64)
    records = []
    for loop in range(loops):  # line 1
        observation, diagnostics = Observation(), dict[str, Any]()
        if loop < selecting_loops or cea:
            observation = observe(
                finetuner,
                train,
                needs | {"embeddings"} if cea else needs,
                selection_objective or objective,
                first_losses=first_losses if loop == 0 else None,
                embeddings=pretrained_embeddings if loop == 0 else None,
            )
        if loop < selecting_loops:  # lines 2 and 3
            kept = labelled if sets == "kept" else None
            pool = make_pool(finetuner.pvm, train, needs, observation, labelled, kept, cea)
            stream = generator(seed, "selection", loop)
            fresh = select(pool, budget, generator=stream, record=diagnostics)
            labelled = torch.cat([labelled, fresh]).unique()
            selection = labelled if sets == "kept" and loop > 0 else fresh
        e = observation.embeddings
        lift = cea.fit(e, selection) if cea and e is not None else None  # lines 4 to 7
        finetuner.finetune(train.subset(selection), validation, loop=loop, lift=lift)  # 8 to 13
        records.append(describe(loop, observation, train, fresh, selection, diagnostics, cea))
    accuracies = measure(finetuner.pvm, test, objective)  # line 15
    return finetuner.report() | {
        "budget": budget,
        "test_accuracy": accuracies["accuracy"],
        "test": accuracies,
        "loops": records,
    }

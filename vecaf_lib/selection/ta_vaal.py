"""TA-VAAL (Kim et al., CVPR 2021): label what looks least like the labelled images.

A variational autoencoder and a discriminator play against each other over whether an image is
labelled; both are also told the rank of its loss, from a loss predictor trained beside the model on
the samples chosen so far (``LossPredictor``, logistic ranking). No label is used beyond that.

The original trains the two networks throughout the training of the task. Here they are trained
when a selection is asked for: finetuning then stays Algorithm 1 for every method, and the loss
predictor is the same in all their steps. The first set is random, as theirs is.
"""

import functools
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor

from vecaf_lib.batches import batches
from vecaf_lib.datasets.lazy import LazyImages, ahead
from vecaf_lib.distribution import state
from vecaf_lib.errors import BadInput
from vecaf_lib.loss_prediction import LossPredictor
from vecaf_lib.selection import random
from vecaf_lib.selection._pool import Pool, check_budget
from vecaf_lib.selection._types import Count, NotNegative, Positive, Record
from vecaf_lib.selection._vaal import VAE, Discriminator, score, train
from vecaf_lib.selection.learnloss import largest, unlabelled

NEEDS = frozenset({"predicted_losses", "images", "labelled"})
COLD_START = True
COMPANION = functools.partial(LossPredictor, ranking="logistic")
Side = Annotated[int, Field(ge=16)]


def select(
    pool: Pool,
    budget: int,
    *,
    generator: torch.Generator,
    record: Record = None,
    steps: Count = 200,
    batch_size: Count = 64,
    learning_rate: Positive = 5e-4,
    latent: Count = 32,
    width: Count = 32,
    adversary: NotNegative = 1.0,
    beta: NotNegative = 1.0,
    image_size: Side = 32,
) -> Tensor:
    """Choose the ``budget`` unlabelled samples that the discriminator deems least labelled.

    Least first; ties keep the pool's order. If fewer than K are unlabelled, all of them are chosen
    and the least labelled-looking of the others fill the set. If none or all are labelled there is
    nothing to tell apart, and the set is random.

    Args:
        pool: with ``labelled``, ``images`` and, unless nothing is labelled, ``predicted_losses``.
        budget: K.
        generator: draws the first set, the first weights, the batches and the latent noise.
        record: receives ``separation``, the share of pairs of a labelled and an unlabelled image
            that the discriminator orders rightly (0.5 is chance), and ``repeats``, the chosen
            samples that had been chosen before; nothing of a random set.
        steps: of the autoencoder and of the discriminator, in turn. More is not better: on the
            digits the discriminator tells labelled from unlabelled perfectly after 25 to 60 steps
            and hardly better than chance after 200, where the two have come to terms.
        batch_size: labelled images a step, and as many unlabelled ones.
        learning_rate: Adam's, for both (theirs: 5e-4).
        latent: numbers that the autoencoder leaves of an image.
        width: channels of its first convolution; theirs is 128, with 16 times the work.
        adversary: weight of the autoencoder's adversarial term.
        beta: weight of its KL term, with KL divided by the 3 image_size^2 values of an image as the
            squared error is; beta = 3 image_size^2 is the plain sum beside the mean squared error.
        image_size: pixels a side that the autoencoder sees; images of another size, such as those
            of a PVM for 224 pixels, are resized for it.

    Raises:
        BadInput: samples are labelled, but nothing predicts losses; or training diverged.
    """
    check_budget(pool, budget)
    labelled = pool.need("labelled")
    images = pool.need("images")
    new = unlabelled(pool.size, labelled)
    if not len(labelled):
        return random.select(pool, budget, generator=generator)
    ranks = pool.need("predicted_losses").float().sigmoid()
    if not len(new):
        return random.select(pool, budget, generator=generator)
    order = torch.cat(
        [_order(at, steps, batch_size, generator) for at in (labelled, new)], 1
    )  # (steps, 2 batch_size)
    shown = (images[at] for at in order.tolist())
    with (
        torch.random.fork_rng(devices=[]),
        torch.backends.cudnn.flags(enabled=True, deterministic=True),  # all processes choose alike
    ):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        vae = VAE(image_size, width, latent).to(state().device)
        discriminator = Discriminator(latent).to(state().device)
        train(
            vae,
            discriminator,
            ahead(shown) if isinstance(images, LazyImages) else shown,
            ranks[order],
            batch_size,
            generator=generator,
            learning_rate=learning_rate,
            adversary=adversary,
            beta=beta,
        )
        scores = score(vae, discriminator, images, ranks)
    if not bool(torch.isfinite(scores).all()):
        raise BadInput("ta_vaal: the discriminator's output is no number; lower learning_rate.")
    chosen = largest(-scores, new, labelled, budget)
    if record is not None:
        repeats = int(torch.isin(chosen, labelled).sum())
        record |= {"separation": separation(scores[labelled], scores[new]), "repeats": repeats}
    return chosen


def separation(high: Float[Tensor, " k"], low: Float[Tensor, " u"]) -> float:
    """Share of pairs in which the one of ``high`` is the larger; an equal pair counts half."""
    low = low.sort().values
    below = torch.searchsorted(low, high, right=False)
    not_above = torch.searchsorted(low, high, right=True)
    return float((below + not_above).double().mean()) / (2 * len(low))


def _order(
    at: Int64[Tensor, " k"], steps: int, batch_size: int, generator: torch.Generator
) -> Int64[Tensor, "steps b"]:
    """The indices ``at`` in ``steps`` batches, from shuffled passes."""
    passes = batches(len(at), batch_size, generator)
    return at[torch.stack([next(passes) for _ in range(steps)])]

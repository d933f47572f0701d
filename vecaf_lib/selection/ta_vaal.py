"""TA-VAAL (Kim et al., CVPR 2021): choose what looks least like the labelled images.

A variational autoencoder tries to map labelled and unlabelled images to the same place, a
discriminator to tell them apart there. Both also see the rank of an image's loss, from a loss
predictor trained beside the model on the samples chosen so far; no other label is used. They are
trained anew when a selection is made, as the released code does.
"""

import functools
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy
from torch.nn.functional import interpolate, mse_loss

from vecaf_lib.data.images import LazyImages, ahead
from vecaf_lib.devices import everyones, own_batches, rank_and_size, state
from vecaf_lib.errors import BadInput
from vecaf_lib.options import Count, Positive, Share
from vecaf_lib.selection import random
from vecaf_lib.selection.learnloss import candidates
from vecaf_lib.selection.pool import Pool, Record
from vecaf_lib.selection.topk_loss import largest
from vecaf_lib.training import LossPredictor, minibatches

NEEDS = frozenset({"predicted_losses", "images", "labelled"})
COLD_START = True
LOSS_PREDICTOR = functools.partial(LossPredictor, ranking="logistic")
LATENT = 32  # numbers an image is coded by
AT_ONCE = 250  # images, when they are scored


def select(
    pool: Pool,
    budget: int,
    *,
    generator: Generator,
    record: Record = None,
    subset: Share = 0.2,
    steps: Count = 200,
    batch_size: Count = 64,
    learning_rate: Positive = 5e-4,
    width: Count = 32,
    image_size: Annotated[int, Field(ge=16)] = 32,
) -> Tensor:
    """Choose the candidates that the discriminator deems least labelled.

    Ties keep the pool's order, labelled samples come last. Random if none or all are labelled.

    Args:
        subset: see ``learnloss.candidates``.
        steps: of both networks in turn. Theirs are 100 passes over candidates and labelled images,
            about 8,600 on CIFAR-10.
        batch_size: labelled images a step, and as many candidates; theirs is 128.
        width: channels of the first convolution; theirs is 128, with 16 times the work.
    """
    pool.check_budget(budget)
    labelled, images = pool.need("labelled"), pool.need("images")
    if len(labelled) in (0, pool.size):
        return random.select(pool, budget, generator=generator)
    unlabelled = candidates(pool, budget, subset, generator=generator)
    ranks = pool.need("predicted_losses").float()
    halves = [(at, minibatches(len(at), batch_size, generator)) for at in (labelled, unlabelled)]
    order = torch.cat(
        [at[torch.stack([next(passes) for _ in range(steps)])] for at, passes in halves], 1
    )  # (steps, 2 batch_size)
    batches: Iterator[Any] = (images[at] for at in order.tolist())
    with (
        torch.random.fork_rng(devices=[]),
        torch.backends.cudnn.flags(enabled=True, deterministic=True),  # all processes choose alike
    ):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        networks = make_networks(image_size, width)
        batches = ahead(batches) if isinstance(images, LazyImages) else batches
        batches = (pixels(images, image_size) for images in batches)
        train(networks, batches, ranks[order], learning_rate, generator=generator)
        at = torch.cat([labelled, unlabelled])
        taken = images.take(at) if isinstance(images, LazyImages) else images[at]
        scores = torch.zeros(pool.size)  # of ``at``, and of no others
        scores[at] = score(networks, taken, image_size, ranks[at])
    if not bool(torch.isfinite(scores).all()):
        raise BadInput("ta_vaal: the discriminator's output is no number; lower learning_rate.")
    return largest(-scores, budget, unlabelled, labelled)


def make_networks(side: int, width: int) -> nn.ModuleList:
    """Encoder, decoder and discriminator, with weights from torch's global random state.

    Images (b x 3 x s x s, 0..1) to the latent's mean and log-variance (b x 2z); [z, rank] to images
    of 16 ceil(s / 16) pixels a side; [mu, rank] to a logit, larger where the image looks labelled.
    """
    channels = [3, *(width * 2**i for i in range(4))]
    coarsest = (channels[-1], -(-side // 16), -(-side // 16))
    down: list[nn.Module] = []
    up: list[nn.Module] = []
    for fine, coarse in pairwise(channels):
        down += [nn.Conv2d(fine, coarse, 4, 2, 1), nn.BatchNorm2d(coarse), nn.ReLU()]
        above = [nn.Sigmoid()] if fine == 3 else [nn.BatchNorm2d(fine), nn.ReLU()]
        up = [nn.ConvTranspose2d(coarse, fine, 4, 2, 1), *above, *up]
    down += [nn.Flatten(), nn.Linear(channels[-1] * (side // 16) ** 2, 2 * LATENT)]
    up = [nn.Linear(LATENT + 1, math.prod(coarsest)), nn.Unflatten(1, coarsest), *up]
    hidden = [nn.Linear(LATENT + 1, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()]
    parts = (down, up, [*hidden, nn.Linear(512, 1)])
    return nn.ModuleList(nn.Sequential(*part) for part in parts).to(state().device)


def train(
    networks: nn.ModuleList,
    batches: Iterator[Float[Tensor, "b 3 s s"]],
    ranks: Float[Tensor, "steps b"],
    learning_rate: float,
    *,
    generator: Generator,
) -> None:
    """A step of the autoencoder and one of the discriminator for each batch, by Adam, in place.

    Autoencoder: mean squared error + KL from N(0, 1) (the mean over b and z, as released) + the
    cross-entropy of "all are labelled". Discriminator: the cross-entropy of which are, a batch's
    first half. ``ranks`` are predicted losses; the discriminator sees them as they are, the decoder
    their sigmoid. Batch normalisation sees both halves together: apart, it would hide just what
    tells them apart.
    """
    encoder, decoder, discriminator = networks
    weights = (networks[:2].parameters(), discriminator.parameters())
    autoencoding, telling_apart = (torch.optim.Adam(w, lr=learning_rate) for w in weights)
    for x, rank in zip(batches, ranks.unsqueeze(2).to(state().device), strict=True):
        mu, log_variance = encoder(x).chunk(2, 1)  # (b, z) each
        z = mu + torch.randn(mu.shape, generator=generator).to(x) * (log_variance / 2).exp()
        decoded = decoder(torch.cat([z, rank.sigmoid()], 1))[:, :, : x.shape[2], : x.shape[3]]
        kl = (mu.square() + log_variance.exp() - 1 - log_variance).mean() / 2
        logits = discriminator(torch.cat([mu, rank], 1))  # (b, 1)
        fooled = cross_entropy(logits, torch.ones_like(logits))
        step(autoencoding, mse_loss(decoded, x) + kl + fooled)

        with torch.no_grad():
            mu, _ = encoder(x).chunk(2, 1)
        logits = discriminator(torch.cat([mu, rank], 1))
        truth = (torch.arange(len(x)) < len(x) // 2).to(logits).unsqueeze(1)
        step(telling_apart, cross_entropy(logits, truth))


def step(adam: torch.optim.Adam, loss: Tensor) -> None:
    """Move the weights of ``adam`` down the gradient of ``loss``."""
    adam.zero_grad()
    loss.backward()
    adam.step()


@torch.no_grad()
def score(networks: nn.ModuleList, images: Any, side: int, ranks: Float[Tensor, " n"]) -> Tensor:
    """How labelled each image looks (n), on the CPU; processes share the pass."""
    encoder, _, discriminator = networks.eval()
    process, processes = rank_and_size()
    own_ranks = ranks.unsqueeze(1).to(state().device).split(AT_ONCE)[process::processes]
    scores = [
        discriminator(torch.cat([encoder(pixels(part, side)).chunk(2, 1)[0], rank], 1))
        for part, rank in zip(own_batches(images, AT_ONCE), own_ranks, strict=True)
    ]
    return everyones(scores, len(images), AT_ONCE, 1).squeeze(1)


def pixels(images: UInt8[Tensor, "b 3 _ _"], side: int) -> Float[Tensor, "b 3 s s"]:
    """Images of another size resized (bilinear, antialiased), in 0..1, where models compute."""
    x, size = images.to(state().device).float() / 255, (side, side)
    return x if x.shape[2:] == size else interpolate(x, size, mode="bilinear", antialias=True)

"""The variational autoencoder and the discriminator of TA-VAAL, and how they are trained.

The autoencoder tries to map labelled and unlabelled images to the same place, the discriminator to
tell them apart there. What it can tell apart at the end is unlike all that is labelled.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, mse_loss

from vecaf_lib.datasets.lazy import LazyImages
from vecaf_lib.distribution import everyones, own_batches, rank_and_size

HALVINGS = 4  # strided convolutions on each side
HIDDEN = 512  # of the discriminator
AT_ONCE = 250  # images, when the whole pool is scored


class VAE(nn.Module):
    """Images (b x 3 x s x s, 0..1) to a latent mean and log-variance, and back.

    Four convolutions of stride 2 and four transposed ones, with batch normalisation. The decoder
    makes 16 ceil(s / 16) pixels a side and is cropped to s.
    """

    def __init__(self, side: int, width: int, latent: int):
        """Draw the layers from torch's global state.

        Args:
            side: s, at least 16.
            width: channels of the first convolution; each later one doubles them.
            latent: z.
        """
        super().__init__()
        channels = [3, *(width * 2**i for i in range(HALVINGS))]
        self.start = (channels[-1], -(-side // 16), -(-side // 16))  # of the decoder
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for fine, coarse in pairwise(channels):
            down += [nn.Conv2d(fine, coarse, 4, 2, 1), nn.BatchNorm2d(coarse), nn.ReLU()]
            above = [nn.Sigmoid()] if fine == 3 else [nn.BatchNorm2d(fine), nn.ReLU()]
            up = [nn.ConvTranspose2d(coarse, fine, 4, 2, 1), *above, *up]
        self.side = side
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.moments = nn.Linear(channels[-1] * (side // 16) ** 2, 2 * latent)
        self.unfold = nn.Linear(latent + 1, torch.Size(self.start).numel())
        self.decoder = nn.Sequential(*up)

    def encode(
        self, images: Float[Tensor, "b 3 s s"]
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, "b z"]]:
        """Mean and log-variance of the latent."""
        mu, log_variance = self.moments(self.encoder(images)).chunk(2, 1)
        return mu, log_variance

    def decode(
        self, z: Float[Tensor, "b z"], rank: Float[Tensor, " b"]
    ) -> Float[Tensor, "b 3 s s"]:
        """Images from [z, rank]."""
        first = self.unfold(torch.cat([z, rank.unsqueeze(1)], 1)).view(-1, *self.start)
        return self.decoder(first)[:, :, : self.side, : self.side]


class Discriminator(nn.Module):
    """[mu, rank] to one number, the larger the more labelled it looks: 512, 512, 1."""

    def __init__(self, latent: int):
        """Draw the layers from torch's global state."""
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(latent + 1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, mu: Float[Tensor, "b z"], rank: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Before the sigmoid."""
        return self.layers(torch.cat([mu, rank.unsqueeze(1)], 1)).squeeze(1)


def seen(images: UInt8[Tensor, "b 3 _ _"], side: int, device: torch.device) -> Tensor:
    """Images of another size resized (bilinear, antialiased), in 0..1, on ``device``."""
    pixels = images.to(device).float() / 255
    if pixels.shape[2:] == (side, side):
        return pixels
    return interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)


def train(
    vae: VAE,
    discriminator: Discriminator,
    shown: Iterable[UInt8[Tensor, "b 3 h w"]],
    ranks: Float[Tensor, "steps b"],
    labelled: int,
    *,
    generator: torch.Generator,
    learning_rate: float,
    adversary: float,
    beta: float,
) -> None:
    """A step of the autoencoder and one of the discriminator for each batch, by Adam.

    Autoencoder: mean squared error + beta KL + adversary times the cross-entropy of "all are
    labelled". Discriminator: the cross-entropy of which are. KL is divided by the number of values
    in an image, as the squared error is; theirs is not, and so large that it empties the latent.
    The labelled and the unlabelled part go through batch normalisation together: apart, it would
    hide in training just what tells them apart.

    Args:
        vae: trained in place, left in evaluation mode.
        discriminator: trained in place.
        shown: batches, each the labelled part before the unlabelled part.
        ranks: of the images of each batch, in 0..1.
        labelled: images in the labelled part.
        generator: of the latent noise.
        learning_rate: of both.
        adversary: weight of the adversarial term.
        beta: weight of KL.
    """
    device = next(vae.parameters()).device
    adams = [torch.optim.Adam(net.parameters(), lr=learning_rate) for net in (vae, discriminator)]
    vae.train()
    for images, rank in zip(shown, ranks.to(device), strict=True):
        x = seen(images, vae.side, device)
        mu, log_variance = vae.encode(x)
        noise = torch.randn(mu.shape, generator=generator).to(device)
        error = mse_loss(vae.decode(mu + noise * (log_variance / 2).exp(), rank), x)
        kl = (mu.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        said = discriminator(mu, rank)
        fooled = binary_cross_entropy_with_logits(said, torch.ones_like(said))
        _step(adams[0], error + beta * kl / x[0].numel() + adversary * fooled)

        with torch.no_grad():
            mu, _ = vae.encode(x)
        said = discriminator(mu, rank)
        truth = (torch.arange(len(said), device=device) < labelled).to(said)
        _step(adams[1], binary_cross_entropy_with_logits(said, truth))
    vae.eval()


@torch.no_grad()
def score(
    vae: VAE,
    discriminator: Discriminator,
    images: UInt8[Tensor, "n 3 h w"] | LazyImages,
    ranks: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """How labelled each image looks, on the CPU; processes share the pass, each gets the whole."""
    device = next(vae.parameters()).device
    rank, size = rank_and_size()
    told = [
        discriminator(vae.encode(seen(part, vae.side, device))[0], r.to(device)).unsqueeze(1)
        for part, r in zip(
            own_batches(images, AT_ONCE), ranks.split(AT_ONCE)[rank::size], strict=True
        )
    ]
    return everyones(told, len(images), AT_ONCE, 1).squeeze(1)


def _step(adam: torch.optim.Adam, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()

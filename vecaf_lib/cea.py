r"""Cross-attentive embedding augmentation, CEA (section 3.2, equations 8 and 9).

$$\alpha_i = \mathrm{Softmax}_i\big(\cos(e_i, t_i)\big) \qquad
  e_i^{aug} = e_i - \eta\,\alpha_i\,(e_i - t_i)$$

The softmax runs over the K selected samples. A cosine lies in [-1, 1], so every
alpha_i <= e^2 / K = 7.4 / K: with K = 500 and eta = 1 the printed form moves an embedding by
about 0.2 %. ``form="scaled"`` multiplies alpha by K; its mean is then 1 and eta is the mean
fraction of the way from e to t. ``form="literal"`` is the printed one.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cosine_similarity

from vecaf_lib.encoders.bridge import Bridge, Kind, fit_bridge, rescale
from vecaf_lib.seeding import generator

Form = Literal["literal", "scaled"]
Scope = Literal["none", "selected", "all"]
Lift = Callable[[Tensor, Tensor], Tensor]  # (live embeddings, positions in the selection) -> e_aug


def attention(
    image: Float[Tensor, "k d"], text: Float[Tensor, "k d"], *, form: Form = "scaled"
) -> Float[Tensor, " k"]:
    """Equation 8: how far each sample is to move, from the agreement of image and caption."""
    alpha = cosine_similarity(image, text, dim=1).softmax(0)  # (k,), sums to 1
    return alpha * len(alpha) if form == "scaled" else alpha


def augment(
    image: Float[Tensor, "k d"],
    text: Float[Tensor, "k d"],
    alpha: Float[Tensor, " k"],
    *,
    eta: float,
) -> Float[Tensor, "k d"]:
    """Equation 9: move each image embedding e towards its text embedding t by eta * alpha."""
    return image - eta * alpha.unsqueeze(1) * (image - text)


def relative_move(image: Float[Tensor, "k d"], augmented: Float[Tensor, "k d"]) -> float:
    """Mean of ||e_aug - e|| / ||e||: under 1 % CEA does nothing that one could measure."""
    return float(((augmented - image).norm(dim=1) / image.norm(dim=1)).mean())


class Augmentation:
    """CEA over the loops of one run: what selection sees, and what the classifier is trained on.

    The paper's text leaves open how a text embedding gets the image's width and norm, whether e is
    live in training and which embeddings the next selection sees. Here alpha and t are fixed for a
    loop and e is live; the other decisions are arguments.
    """

    def __init__(
        self,
        text: Float[Tensor, "n d_text"],
        *,
        seed: int,
        eta: float = 0.2,
        form: Form = "scaled",
        bridge: Kind = "ridge",
        ridge: float = 0.1,
        refit_bridge: bool = True,
        rescale_text: bool = True,
        pool_scope: Scope = "selected",
        finetune_augmented: bool = True,
    ):
        """Decide the open points.

        Args:
            text: t of the whole pool, in text space.
            seed: of the run; only the random bridge draws from it.
            eta: step size of equation 9.
            form: of equation 8, see the head of this file.
            bridge: map from text to image space, see ``encoders.bridge``.
            ridge: penalty of the ridge bridge.
            refit_bridge: fit the bridge anew in each loop, since finetuning moves the image space.
            rescale_text: give each t the norm of its e.
            pool_scope: whose embeddings the next selection sees augmented: of the samples that
                were ``selected`` in the loop before, with that loop's alpha and t ("candidates in
                future rounds", section 3), of ``all`` (which the prompts of section 3.3 need), or
                of ``none``.
            finetune_augmented: train the classifier on e_aug (Algorithm 1), or on e.
        """
        self.text, self.seed = text, seed
        self.eta, self.form, self.kind, self.ridge = eta, form, bridge, ridge
        self.refit_bridge, self.rescale_text = refit_bridge, rescale_text
        self.pool_scope, self.finetune_augmented = pool_scope, finetune_augmented
        self.bridge: Bridge | None = None
        self.last: tuple[Tensor, Tensor, Tensor] | None = None  # selection, its t, its alpha
        self.told: dict[str, Any] = {}

    def _bring(self, e: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Text embeddings of the pool in image space."""
        if self.bridge is None or self.refit_bridge:
            draw = generator(self.seed, "bridge")
            self.bridge = fit_bridge(self.kind, self.text, e, ridge=self.ridge, generator=draw)
        t = self.bridge(self.text)
        return rescale(t, e) if self.rescale_text else t

    def pool(self, e: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The pool's embeddings as this loop's selection sees them."""
        if self.pool_scope == "all":
            t = self._bring(e)
            return augment(e, t, attention(e, t, form=self.form), eta=self.eta)
        if self.pool_scope == "none" or self.last is None:
            return e
        chosen, t, alpha = self.last
        return e.index_copy(0, chosen, augment(e[chosen], t, alpha, eta=self.eta))

    def fit(self, e: Float[Tensor, "n d"], chosen: Int64[Tensor, " k"]) -> Lift | None:
        """Lines 4 to 7 for the selected samples; returns how training augments a batch."""
        t, e = self._bring(e)[chosen], e[chosen]
        alpha = attention(e, t, form=self.form)
        self.last = (chosen, t, alpha)
        moved = relative_move(e, augment(e, t, alpha, eta=self.eta))
        self.told = {"relative_move": moved, "form": self.form, "eta": self.eta}
        if moved < 0.01:
            warnings.warn(
                f"CEA moves embeddings by {moved:.2%} on average (form {self.form!r}, eta "
                f"{self.eta:g}): too little to matter; use a larger eta or form 'scaled'.",
                stacklevel=2,
            )
        if not self.finetune_augmented:
            return None

        def lift(live: Tensor, at: Tensor) -> Tensor:
            there = live.device
            return augment(live, t[at].to(there), alpha[at].to(there), eta=self.eta)

        return lift

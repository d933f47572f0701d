r"""Cross-attentive embedding augmentation, CEA (section 3.2, equations 8 and 9).

$$\alpha_i = \mathrm{Softmax}_i\big(\cos(e_i, t_i)\big) \qquad
  e_i^{aug} = e_i - \eta\,\alpha_i\,(e_i - t_i)$$

The softmax runs over the K selected samples, so every alpha_i <= e^2 / K: with K = 500 and eta = 1
the printed form, ``literal``, moves an embedding by about 0.2 %. ``scaled`` multiplies alpha by K;
its mean is then 1 and eta is the mean fraction of the way from e to t.

**The bridge** brings t into the image space, where equation 9 subtracts it from e.
The paper uses "text embeddings with the same dimensions as image embeddings", but the pairs that it
reports differ (BERT-L 1024, ViT-B 768), so that the map is our decision. A fitted one is centred: a
sentence that all captions share (section 3.3) would cancel, so that it is fitted without it.

| kind       | map                                                | needs           |
|------------|----------------------------------------------------|-----------------|
| identity   | none                                               | equal widths    |
| ridge      | affine least squares from t_i to e_i over the pool | pool pairs      |
| procrustes | orthogonal map and one scale, over centred pairs   | pool pairs      |
| random     | seeded Gaussian projection                         | nothing         |
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from vecaf_lib.errors import BadInput
from vecaf_lib.options import NotNegative, Positive
from vecaf_lib.seeding import generator

Kind = Literal["identity", "ridge", "procrustes", "random"]
Bridge = Callable[[Tensor], Tensor]


def fit_bridge(
    kind: Kind,
    text: Float[Tensor, "n d_text"],
    image: Float[Tensor, "n d"],
    *,
    ridge: float = 0.1,
    generator: torch.Generator,
) -> Bridge:
    """Fit the map from text space [m, d_text] to image space [m, d] on the pool's pairs; no labels.

    ``ridge``: its penalty, as a fraction of the mean variance of a text dimension; ``generator``
    draws the random projection.
    """
    if kind == "identity":
        if text.shape[1] != image.shape[1]:
            raise BadInput(
                f"cea.bridge: 'identity' needs equal widths, but text has {text.shape[1]} and "
                f"images have {image.shape[1]}; use ridge, procrustes or random."
            )
        return lambda t: t
    if kind == "random":
        draw = torch.randn(text.shape[1], image.shape[1], generator=generator)
        projection = (draw / text.shape[1] ** 0.5).to(text)
        return lambda t: t @ projection
    text_mean, image_mean = text.mean(0), image.mean(0)
    T, E = text - text_mean, image - image_mean  # (n, d_text), (n, d)
    if kind == "ridge":
        gram = T.T @ T  # (d_text, d_text), 0 if all captions are equal
        penalty = ridge * gram.diagonal().mean().clamp_min(1e-12)
        matrix = torch.linalg.solve(gram + penalty * torch.eye(len(gram)).to(gram), T.T @ E)
    else:
        left, values, right = torch.linalg.svd(T.T @ E, full_matrices=False)
        rotation = left @ right  # (d_text, d)
        # the least-squares scale
        matrix = values.sum() / (T @ rotation).square().sum().clamp_min(1e-12) * rotation
    return lambda t: (t - text_mean) @ matrix + image_mean


def rescale(text: Float[Tensor, "k d"], image: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    """Give each text vector the norm of its image vector, so that only direction is mixed in."""
    return normalize(text, dim=1) * image.norm(dim=1, keepdim=True)


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
    image: Float[Tensor, "k d"], text: Float[Tensor, "k d"], alpha: Tensor, *, eta: float
) -> Float[Tensor, "k d"]:
    """Equation 9: move each image embedding e towards its text embedding t by eta * alpha."""
    return image - eta * alpha.unsqueeze(1) * (image - text)


def relative_move(image: Float[Tensor, "k d"], augmented: Float[Tensor, "k d"]) -> float:
    """Mean of ||e_aug - e|| / ||e||: under 1 % CEA does nothing that one could measure."""
    return float(((augmented - image).norm(dim=1) / image.norm(dim=1)).mean())


@dataclass(eq=False)
class Augmentation:
    """CEA over the loops of one run: what selection sees, and what the classifier is trained on.

    The paper leaves open what the fields decide. Alpha and t are fixed for a loop, e is live.
    """

    text: Float[Tensor, "n d_text"]  # t of the whole pool, in text space
    _: KW_ONLY
    plain_text: Float[Tensor, "n d_text"] | None = None  # of the captions without their prompt
    seed: int  # of the run; only the random bridge draws from it
    eta: NotNegative = 0.2  # step size of equation 9
    form: Form = "scaled"  # of equation 8, see the head of this file
    bridge: Kind = "ridge"  # map from text to image space, see ``fit_bridge``
    ridge: Positive = 0.1  # penalty of the ridge bridge
    refit_bridge: bool = True  # anew in each loop, since finetuning moves the image space
    rescale_text: bool = True  # give each t the norm of its e
    # Whose embeddings the next selection sees augmented: of the samples "selected" in the loop
    # before, with its alpha and t ("candidates in future rounds", section 3), of "all" (which the
    # prompts of section 3.3 need), or of "none".
    pool_scope: Scope = "selected"
    finetune_augmented: bool = True  # train the classifier on e_aug (Algorithm 1), or on e
    fitted: Bridge | None = field(default=None, init=False)
    previous: tuple[Tensor, ...] = field(default=(), init=False)  # selection, its t and alpha
    record: dict[str, Any] = field(default_factory=dict, init=False)  # for the run file

    def bring(self, e: Float[Tensor, "n d"], draw: torch.Generator) -> Bridge:
        """The map of pool captions into image space; ``draw`` is for the random bridge."""
        if self.fitted is None or self.refit_bridge:
            source = self.text if self.plain_text is None else self.plain_text
            self.fitted = fit_bridge(self.bridge, source, e, ridge=self.ridge, generator=draw)
        bridge = self.fitted
        return lambda text: rescale(bridge(text), e) if self.rescale_text else bridge(text)

    def pool(self, e: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The pool's embeddings as this loop's selection sees them."""
        if self.pool_scope == "all":
            t = self.bring(e, generator(self.seed, "bridge"))(self.text)
            return augment(e, t, attention(e, t, form=self.form), eta=self.eta)
        if self.pool_scope == "none" or not self.previous:
            return e
        selection, t, alpha = self.previous
        return e.index_copy(0, selection, augment(e[selection], t, alpha, eta=self.eta))

    def fit(self, e: Float[Tensor, "n d"], selection: Int64[Tensor, " k"]) -> Lift | None:
        """Lines 4 to 7 for the selected samples; returns how training augments a batch.

        ``record`` gets ``relative_move``, the mean of ||e_aug - e|| / ||e||, and where captions end
        with a prompt ``prompt_move``, the same of e_aug against that of the plain captions.
        """
        bridge = self.bring(e, generator(self.seed, "bridge"))
        e, t = e[selection], bridge(self.text)[selection]
        alpha = attention(e, t, form=self.form)
        augmented = augment(e, t, alpha, eta=self.eta)
        self.previous = (selection, t, alpha)
        moved = relative_move(e, augmented)
        self.record = {"relative_move": moved, "form": self.form, "eta": self.eta}
        if self.plain_text is not None:
            plain = bridge(self.plain_text)[selection]
            without = augment(e, plain, attention(e, plain, form=self.form), eta=self.eta)
            self.record["prompt_move"] = relative_move(e, e + augmented - without)
        if moved < 0.01:
            warnings.warn(
                f"CEA moves embeddings by {moved:.2%} on average (form {self.form!r}, eta "
                f"{self.eta:g}): too little to matter; use a larger eta or form 'scaled'.",
                stacklevel=2,
            )

        def lift(live: Tensor, at: Tensor) -> Tensor:
            return augment(live, t[at].to(live.device), alpha[at].to(live.device), eta=self.eta)

        return lift if self.finetune_augmented else None


@dataclass(eq=False)
class OfficialAugmentation(Augmentation):
    """CEA as the authors' code has it: 1.2 t - 0.2 e + 0.001 noise, for selection only.

    Its softmax runs over a single number, so alpha = 1, and eta = 1.2 overshoots the text
    embedding. All of the pool is augmented; the classifier is finetuned on plain images.
    """

    eta: float = 1.2
    first_loop: bool = True  # as the CIFAR scripts; the ImageNet script augments from the second on

    def pool(self, e: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """All of the pool, augmented."""
        self.record = {"relative_move": 0.0, "form": "official", "eta": self.eta}
        if not self.first_loop and not self.previous:
            return e
        draw = generator(self.seed, "bridge")
        t = self.bring(e, draw)(self.text)
        noise = torch.randn(e.shape, generator=draw).to(e)
        seen = augment(e, t, e.new_ones(len(e)), eta=self.eta) + 0.001 * noise
        self.record["relative_move"] = relative_move(e, seen)
        return seen

    def fit(self, e: Float[Tensor, "n d"], selection: Int64[Tensor, " k"]) -> None:
        """Note that a loop has passed: the classifier is finetuned on plain images."""
        self.previous = (selection,)


OFFICIAL = {"bridge", "ridge", "first_loop"}  # all that mode ``official`` leaves open


def augmentation(settings: Mapping[str, Any], **inputs: Any) -> Augmentation:
    """CEA as a method's section ``cea`` has it; ``inputs``: text, plain_text and seed."""
    official = settings["mode"] == "official"
    names = OFFICIAL if official else settings.keys() - {"mode", "first_loop"}
    kind = OfficialAugmentation if official else Augmentation
    return kind(**inputs, **{name: settings[name] for name in names})

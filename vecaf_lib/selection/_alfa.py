r"""Which samples a mix with a class anchor makes the classifier call otherwise (ALFA-Mix).

The mix of an embedding e and an anchor a is $\tilde e = (1-\alpha) e + \alpha a = e + \alpha z$,
with $z = a - e$ and $\alpha$ element-wise. Two ways to find $\alpha$ are given.

**Closed form** (their equation 6), with g the gradient of the pseudo-label's loss at e:

$$\alpha = \varepsilon\,\frac{\lVert z\rVert}{\lVert g\rVert}\,\frac{g}{z},\quad
  \varepsilon = \mathrm{cap}/\sqrt d
  \quad\Rightarrow\quad \tilde e = e + \varepsilon \lVert z\rVert\, g / \lVert g\rVert$$

So the mix is a step along +g, which raises that loss to first order by eps ||z|| ||g||, and the
anchor sets nothing but the length of the step. The classifier is linear: along this ray its scores
are linear in the step, and once another class leads, it stays ahead of the pseudo-label. A sample
therefore flips from one cap on, which is computed once for all caps and anchors.

**Optimised**: alpha in [1e-8, cap], by Adam on the loss.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

LEAST = 1e-8  # the smallest alpha, as theirs


def flipping_caps(
    e: Float[Tensor, "b d"], anchors: Float[Tensor, "a d"], classifier: nn.Linear
) -> Float[Tensor, " b"]:
    """The cap above which the closed form flips each sample for some anchor; inf for never.

    Args:
        e: embeddings of samples without a label.
        anchors: mean labelled embedding of each class.
        classifier: the last layer of f(.; w).
    """
    W = classifier.weight
    scores = classifier(e)  # (b, c)
    if scores.shape[1] == 1:
        return e.new_full((len(e),), torch.inf)
    top, pseudo = scores.max(1, keepdim=True)
    # g / (1 - p_y), which a sure prediction does not round to 0 as it does g
    u = scores.scatter(1, pseudo, -torch.inf).softmax(1) @ W - W[pseudo.squeeze(1)]  # (b, d)
    slope = u @ W.T
    rise = slope - slope.gather(1, pseudo)  # of each class over the pseudo-label
    steps = torch.where(rise > 0, (top - scores) / rise, torch.inf).amin(1)  # in lengths of u
    reach = torch.cdist(e, anchors).amax(1) / e.shape[1] ** 0.5  # of a step, with cap 1
    tiny = torch.finfo(e.dtype).tiny  # inf * 0 is no number
    return steps * u.norm(dim=1).clamp_min(tiny) / reach.clamp_min(tiny)


def optimised_flips(
    e: Float[Tensor, "b d"],
    anchor: Float[Tensor, " d"],
    classifier: nn.Linear,
    cap: float,
    *,
    learning_rate: float,
    iterations: int,
    l2: float,
) -> Bool[Tensor, " b"]:
    """Whether any alpha that Adam passes through flips the sample.

    It minimises ``l2 * ||alpha|| - loss of the pseudo-label``. Theirs starts from a normal draw
    around cap / 2; here it starts at cap / 2 itself, so that nothing is drawn and the size of a
    batch changes nothing.

    Args:
        e: embeddings of samples without a label.
        anchor: mean labelled embedding of one class.
        classifier: the last layer of f(.; w).
        cap: the largest alpha.
        learning_rate: Adam's.
        iterations: Adam's steps.
        l2: weight of the norm.
    """
    z = anchor - e
    pseudo = classifier(e).argmax(1)
    alpha = torch.full_like(e, cap / 2)
    adam = torch.optim.Adam([alpha], lr=learning_rate)
    scores = classifier(e + alpha * z)
    flips = scores.argmax(1) != pseudo
    for _ in range(iterations):
        p = scores.softmax(1)
        p[torch.arange(len(p)), pseudo] -= 1
        uphill = z * (p @ classifier.weight)  # of the loss, with respect to alpha
        alpha.grad = l2 * alpha / alpha.norm(dim=1, keepdim=True) - uphill
        adam.step()
        alpha.clamp_(LEAST, max(cap, LEAST))
        scores = classifier(e + alpha * z)
        flips |= scores.argmax(1) != pseudo
    return flips

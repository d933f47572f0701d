"""What is chosen, measured by yardsticks that are the same for every method; no model is finetuned.

A selection is an array of positions in the pool. ``out_of_fold`` and ``margins`` are those of a
classifier on the pretrained embeddings that never saw the image in question.
"""

import warnings

import numpy as np
from jaxtyping import Float, Int64, Shaped
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from vecaf_lib.errors import BadInput

COVERED = 5_000  # pool images at most, evenly spaced, whose nearest chosen image is looked for


def jaccard(a: Shaped[np.ndarray, " k"], b: Shaped[np.ndarray, " l"]) -> float:
    """Common images over all images of two selections, percent."""
    return 100.0 * len(np.intersect1d(a, b)) / (len(np.union1d(a, b)) or 1)


def class_entropy(labels: Int64[np.ndarray, " k"], classes: int) -> float:
    """Entropy of the class counts over log(classes): 1 if all classes are equally frequent."""
    counts = np.bincount(labels, minlength=classes)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum() / np.log(classes))


def coverage(unit: Float[np.ndarray, "n d"], chosen: Int64[np.ndarray, " k"]) -> float:
    """Mean over the pool of 1 - cosine to the nearest chosen image; lower covers better.

    ``unit`` are embeddings of unit length; of a large pool 5,000 evenly spaced ones are used.
    """
    at = np.arange(min(COVERED, len(unit))) * len(unit) // min(COVERED, len(unit))
    centres = unit[chosen].T  # (d, k)
    nearest = [(unit[part] @ centres).max(1) for part in np.array_split(at, -(-len(at) // 1000))]
    return float(np.clip(1 - np.concatenate(nearest), 0, None).mean())


def out_of_fold(
    embeddings: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"], *, seed: int = 0
) -> Float[np.ndarray, "n c"]:
    """Class probabilities of each image from logistic regressions that did not see it.

    Standardised embeddings, 128 principal components, five stratified folds, at most 200 iterations
    of the solver (50 above 20,000 images). The share of images whose class is not their label is
    the simplest form of confident learning (Northcutt et al., JAIR 2021). A column a class that
    occurs; NaN, with a warning, for an image that is alone in its class. BadInput if fewer than two
    classes have two images.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if (alone := counts < 2).sum() > len(counts) - 2:
        raise BadInput("labels: out-of-fold predictions need at least two classes of two images.")
    if alone.any():
        text = f"{alone.sum()} classes with one image are left out of out-of-fold predictions"
        warnings.warn(f"{text}, such as class {classes[alone][0]}.", stacklevel=2)
    known = ~np.isin(labels, classes[alone])
    probabilities = np.where(known[:, None], np.zeros(len(counts)), np.nan)  # (n, c)
    embeddings, labels = embeddings[known], labels[known]
    x = StandardScaler().fit_transform(embeddings.astype(np.float32, copy=False))
    if min(x.shape) > 128:
        x = PCA(128, random_state=seed).fit_transform(x)
    folds = StratifiedKFold(min(5, int(counts.max())), shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=200 if len(x) <= 20_000 else 50)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is stated
        warnings.filterwarnings("ignore", message="The least populated class")
        predicted = cross_val_predict(model, x, labels, cv=folds, method="predict_proba")
    probabilities[np.ix_(known, ~alone)] = predicted
    return probabilities


def margins(probabilities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Probability of the likeliest class minus that of the next: small near a boundary."""
    two = np.sort(probabilities, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]

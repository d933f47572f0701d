"""What a classifier that never saw a sample says of its class: cross-validated probabilities."""

import warnings

import numpy as np
from jaxtyping import Float, Int64
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vecaf_lib.errors import BadInput

FOLDS, COMPONENTS = 5, 128
LARGE, ITERATIONS, FEWER = 20_000, 200, 50  # images; solver's iterations, and above LARGE


def out_of_fold(
    embeddings: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, seed: int = 0
) -> Float[np.ndarray, "n c"]:
    """Class probabilities of each sample from logistic regressions that did not see it.

    Embeddings are standardised and brought to 128 principal components (no label is used for
    that); five stratified folds. The solver makes at most 200 iterations, 50 above 20,000
    samples. Columns are the classes that occur, in the order of their numbers. The share of
    samples whose class is not the label is the simplest form of confident learning (Northcutt et
    al., JAIR 2021).

    Args:
        embeddings: pretrained image embeddings.
        labels: class indices.
        seed: draws the folds.

    Raises:
        BadInput: a class has fewer than two samples, or there is only one class.
    """
    y, counts = labels.numpy(), np.unique(labels.numpy(), return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 2:
        raise BadInput(
            f"labels: {len(counts)} classes, the smallest of {counts.min()} samples; out-of-fold "
            "predictions need at least two classes of two."
        )
    x = StandardScaler().fit_transform(embeddings.numpy().astype(np.float32, copy=False))
    if min(x.shape) > COMPONENTS:
        x = PCA(COMPONENTS, random_state=seed).fit_transform(x)
    folds = StratifiedKFold(min(FOLDS, int(counts.max())), shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=ITERATIONS if len(x) <= LARGE else FEWER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is stated
        warnings.filterwarnings("ignore", message="The least populated class")
        return np.asarray(cross_val_predict(model, x, y, cv=folds, method="predict_proba"))


def margins(probabilities: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Probability of the likeliest class minus that of the next: small near a boundary."""
    two = np.sort(probabilities, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]

"""``CentroidSelector``: the engine as a scikit-learn estimator."""

from typing import Any

from sklearn.base import BaseEstimator

from vecaf_lib.centroids.api import select


class CentroidSelector(BaseEstimator):
    """The same as a scikit-learn estimator: ``CentroidSelector(100).fit(X).selected_indices_``.

    Attributes:
        selected_indices_: the chosen rows of X.
        objective_curve_: the objective at each renewal.
        centroids_: K x d, unit length.
    """

    def __init__(
        self,
        budget: int = 100,
        *,
        objective: str = "ods",
        tau: float = 0.07,
        lambda_: float = 1.0,
        steps: int = 150,
        ensemble: int = 1,
        seed: int = 0,
    ) -> None:
        self.budget, self.objective, self.tau, self.lambda_ = budget, objective, tau, lambda_
        self.steps, self.ensemble, self.seed = steps, ensemble, seed

    def fit(self, X: Any, y: Any = None, *, losses: Any = None) -> "CentroidSelector":
        """Select from X (N x d); ``y`` is ignored, ``losses`` weigh the samples."""
        record: dict[str, Any] = {}
        options = self.get_params()
        budget = options.pop("budget")
        self.selected_indices_ = select(X, budget, losses, record=record, **options)
        self.objective_curve_ = record["curve"]
        self.centroids_ = record["centroids"]
        return self

    def transform(self, X: Any) -> Any:
        """The chosen rows of X."""
        return X[self.selected_indices_]

"""How a descent is made: the settings that decide its result, checked at once."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vecaf_lib.centroids.products import Product

Objective = Literal["ods", "activeft"]
FULL_PASSES = 10**9  # N x K up to which every renewal looks at the whole pool


class Plan(BaseModel):
    """Settings of a descent.

    Attributes:
        objective: ``ods``, equation 7, or ``activeft``, see the two selectors.
        tau: temperature; the sums are kept in float32 without a shift, so 0.02 at least.
        lambda_: weight of diversity in ``ods``.
        loss_power: gamma, the power of the losses in p_L.
        steps: Adam steps, the rate falling to 0 over the last 30 %.
        learning_rate: of Adam until then.
        renew_every: steps for which a sample keeps its nearest centroid.
        draws: samples drawn from p at each renewal; 0 looks at all.
        sweep_from: share of the steps after which every renewal looks at all, draws or not: the
            last pull is then exact, and what the draws blurred is mended.
        tolerance: stop when two renewals lower the objective by less than this fraction of it; 0
            makes all steps, and so do draws, whose noise would decide.
        product: of cosines in the descent; the choice of samples is exact with any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    objective: Objective = "ods"
    tau: float = Field(0.07, ge=0.02)
    lambda_: float = Field(1.0, ge=0)
    loss_power: float = Field(1.0, ge=0)
    steps: int = Field(150, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    renew_every: int = Field(10, ge=1)
    draws: int = Field(0, ge=0)
    sweep_from: float = Field(0.86, ge=0, le=1)
    tolerance: float = Field(0.0, ge=0)
    product: Product = "int8"


def draws_for(size: int, budget: int) -> int:
    """Samples to draw at each renewal: all (0) while N x K is small, else 16 a centroid."""
    return 0 if size * budget <= FULL_PASSES else min(16 * budget, size)

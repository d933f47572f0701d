"""What the attribute captioner can say of each measurement, and where one word ends."""

from dataclasses import asdict, dataclass

import numpy as np

from vecaf_lib.errors import BadInput

NEUTRAL_AT_ZERO = ("slant", "position_x", "position_y", "balance_x", "balance_y")

WORDS = {
    "stroke_weight": ("thin", "medium-weight", "bold"),
    "size": ("small", "mid-sized", "large"),
    "proportion": ("narrow", "evenly proportioned", "wide"),
    "brightness": ("dark", "moderately bright", "bright"),
    "contrast": ("low in contrast", "moderate in contrast", "high in contrast"),
    "sharpness": ("soft", "fairly crisp", "sharp"),
    "slant": ("left-leaning", "upright", "right-leaning"),
    "position_x": ("left", "", "right"),
    "position_y": ("top", "", "bottom"),
    "balance_x": ("heavier on the left", "", "heavier on the right"),
    "balance_y": ("top-heavy", "", "bottom-heavy"),
}
HOLES = ("no enclosed hole", "one enclosed hole", "two enclosed holes", "several enclosed holes")


@dataclass(frozen=True)
class Thresholds:
    """For each measurement the two values that part its three words, (low, high).

    ``dataclasses.asdict`` gives the form for JSON, ``from_json`` reads it back.

    Raises:
        BadInput: a pair is not two finite numbers in rising order.
    """

    stroke_weight: tuple[float, float]
    size: tuple[float, float]
    proportion: tuple[float, float]
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    sharpness: tuple[float, float]
    slant: tuple[float, float]
    position_x: tuple[float, float]
    position_y: tuple[float, float]
    balance_x: tuple[float, float]
    balance_y: tuple[float, float]

    def __post_init__(self) -> None:
        for name, (low, high) in asdict(self).items():
            if not -np.inf < low <= high < np.inf:
                raise BadInput(
                    f"The caption thresholds of {name} are {low} and {high}; they must be two "
                    "finite numbers, the lower one first."
                )

    @classmethod
    def from_json(cls, content: dict[str, list[float]]) -> "Thresholds":
        """Read back what ``asdict`` and JSON made.

        Raises:
            BadInput: a measurement is missing or unknown, or its pair is wrong.
        """
        if set(content) != set(WORDS):
            wrong = ", ".join(sorted(set(content) ^ set(WORDS)))
            raise BadInput(f"The caption thresholds are missing or unknown for: {wrong}.")
        for name, pair in content.items():
            if len(pair) != 2:
                raise BadInput(f"The caption thresholds of {name} are {pair}; give two numbers.")
        return cls(**{name: (float(low), float(high)) for name, (low, high) in content.items()})

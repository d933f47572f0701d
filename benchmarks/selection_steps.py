"""How far the short selection of profile smoke is from the long one.

``python benchmarks/selection_steps.py``. ActiveFT takes 300 Adam steps at 1e-3, and so does ODS by
default; profile smoke takes 60 at 5e-3 (here "short"), and the CPU profiles take 40 at 7.5e-3 and
look for the nearest centroids at every twentieth ("held"). All run on the embedded pool (initial
embeddings, linear-probe losses). Printed for each: the last value of the objective, its distance
to the long run's, the ratio of times in this one process, and the share of images chosen by both.
"""

import time
from pathlib import Path

import pandas as pd
import torch

from vecaf_lib.data.load import load
from vecaf_lib.evaluation import embed_pool as look
from vecaf_lib.evaluation import linear_probe_losses
from vecaf_lib.models.vision import PVM, load_backbone
from vecaf_lib.seeding import generator
from vecaf_lib.selection import Pool, activeft, ods

LONG = {"iterations": 300, "learning_rate": 1e-3}
SHORT = {"iterations": 60, "learning_rate": 5e-3}
HELD = {"iterations": 40, "learning_rate": 7.5e-3, "reassign_every": 20}
WAYS = (("warm", SHORT), ("long", LONG), ("short", SHORT), ("held", HELD))


def main() -> None:
    """Print the table."""
    data = load("digits", "train", image_size=32, data=Path("data"))
    backbone = load_backbone("tf_efficientnet_lite0", weights="package")
    embeddings, _ = look(PVM(backbone, 10, generator=generator(0)), data.images)
    losses = linear_probe_losses(embeddings, data.labels, classes=10)
    pool = Pool(len(data), embeddings=embeddings, losses=losses)
    rows = []
    for budget in (20, 50):
        for name, method, fixed in (("activeft", activeft, {}), ("ods", ods, {"ensemble": 1})):
            found = {}
            for length, steps in WAYS:
                record: dict[str, float] = {}
                start = time.perf_counter()
                chosen = method.select(
                    pool,
                    budget,
                    generator=generator(0),
                    record=record,
                    tolerance=0.0,
                    **steps,
                    **fixed,
                )
                found[length] = record["objective"], time.perf_counter() - start, chosen
            far, slow, reference = found["long"]
            for way in ("short", "held"):
                near, fast, chosen = found[way]
                rows.append(
                    {
                        "method": name,
                        "K": budget,
                        "way": way,
                        "objective, long": far,
                        "this way": near,
                        "distance, %": 100 * (near - far) / abs(far),
                        "time, long / this": slow / fast,
                        "chosen by both": torch.isin(chosen, reference).float().mean().item(),
                    }
                )
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()

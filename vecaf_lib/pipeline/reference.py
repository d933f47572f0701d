"""Did it reproduce? A profile's results beside its reference, which is committed."""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch.backends.cpu import get_cpu_capability

from vecaf_lib.files import read_json, sha256_json, write_json
from vecaf_lib.pipeline.needs import settings_of
from vecaf_lib.pipeline.provenance import commit
from vecaf_lib.results.compare import number, read_table
from vecaf_lib.results.runs import Run, RunStore, runs_of

KINDS = ["of other settings", "with other images", "with other numbers"]
KINDS += ["only in the reference", "only here"]


def compare(profile: str | None, listed: bool, write: bool) -> None:
    """Say in one line whether a profile's results are its reference's; or ``write`` that anew.

    ``listed``: print all that differs, too. BadInput: a run is damaged or, to ``write``, missing;
    or Table 1 is missing.
    """
    settings = settings_of(profile)
    name, runs = settings.profile, runs_of(settings)
    path, reports = Path(f"profiles/reference/{name}.json"), Path("reports", name)
    if write:
        write_json(path, summary(reports, runs))
        print(f"{path} is written: {len(runs)} runs and the means of Table 1.")
    elif not path.is_file():
        print(
            f"No {path} to compare with: `vecaf compare {name} --write` makes it of these results."
        )
    else:
        made = [run for run in runs if (reports / "runs" / run.file).is_file()]
        reference, here = read_json(path), summary(reports, made)
        found = [*differences(reference, here)]
        print(verdict(reference, here, [kind for kind, *_ in found]))
        if listed and found:
            table = pd.DataFrame(found, columns=["differs", "name", "reference", "here"])
            print(table.to_string(index=False))


def summary(reports: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """What a reference holds; JSON-able, some KB.

    ``runs``: file -> digests of settings, chosen images and all results, accuracy in percent;
    ``table1``: cell -> mean and standard error; ``made``: processor, commit, versions.
    """
    made = {"processor": _processor(), "commit": commit(), "versions": {}}
    lines = {}
    for run, content in zip(runs, RunStore(reports / "runs").load_all(runs), strict=True):
        result, provenance = content["result"], content["provenance"]
        parts = provenance["settings"], [loop["chosen"] for loop in result["loops"]], result
        digests = (sha256_json(part)[:8] for part in parts)
        lines[run.file] = [*digests, round(result["test_accuracy"], 4)]
        made["versions"] = provenance["versions"]
    table = read_table(reports / "tables/table1.csv").replace({np.nan: None}).set_index("cell")
    means = {cell: [*line] for cell, line in table[["mean", "standard_error"]].T.items()}
    return {"made": made, "runs": lines, "table1": means}


def differences(reference: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Each run and each mean of Table 1 that differs: in what, its name, both numbers."""
    for name in {**reference["runs"], **here["runs"]}:
        old, new = (side["runs"].get(name) for side in (reference, here))
        if not old or not new:
            kind = KINDS[3 if old else 4]
        elif old[1:] == new[1:]:
            continue
        else:
            kind = KINDS[0 if old[0] != new[0] else 1 if old[1] != new[1] else 2]
        yield kind, name, *(number(side[3]) if side else "–" for side in (old, new))
    for cell, old in reference["table1"].items():
        if (new := here["table1"].get(cell, old)) != old:
            yield "mean", cell, number(*old), number(*new)


def verdict(reference: Mapping[str, Any], here: Mapping[str, Any], found: Sequence[str]) -> str:
    """One line: every run is the same; or how many are not, and how far a mean is at most."""
    old, new, size = reference["made"], here["made"], len(reference["runs"])
    if not found:
        return f"Reproduced: every run, {size} of {size}, is the reference's, byte for byte."
    runs = ", ".join(f"{found.count(kind)} {kind}" for kind in KINDS if kind in found)
    theirs, ours = reference["table1"], here["table1"]
    gaps = {cell: abs(ours[cell][0] - theirs[cell][0]) for cell in theirs if cell in ours}
    means = "every mean of Table 1 is the same"
    if any(gaps.values()):
        cell, gap = max(gaps.items(), key=lambda item: item[1])
        error = theirs[cell][1]
        side = "of one seed" if error is None else "within" if gap <= error else "beyond"
        side += f" its standard error {number(error)}" * (error is not None)
        means = f"means differ by {number(gap)} points at most ({cell}, {side})"
    now = new["processor"] + ", other libraries" * (old["versions"] != new["versions"])
    return (
        f"Not all as in the reference: of {size} runs {runs}; {means}. Made on "
        f"{old['processor']}, here {now}. `make compare` lists them."
    )


def _processor() -> str:
    """Its name and the instructions that torch uses, as far as the system tells."""
    told, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    names = re.findall(r"^model name\s*: (.*)", told.read_text(), re.M) if told.is_file() else []
    return f"{(names or [name])[0]}, {get_cpu_capability()}"

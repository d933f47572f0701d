"""Settings tried on the validation split alone, with seeds that the evidence does not use.

Trials are in ``profiles/search/PROFILE.yaml``, their means in ``reports/PROFILE/search.csv``.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import model_validator

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json
from vecaf_lib.options import Count, Whole, one_of
from vecaf_lib.pipeline import settings
from vecaf_lib.pipeline.run import Job
from vecaf_lib.pipeline.runs import make_runs
from vecaf_lib.pipeline.settings import Ratio, Section, Sets, Some
from vecaf_lib.results.compare import write_table
from vecaf_lib.results.runs import FULL, Run, RunStore


class Round(Section):
    """Methods times settings, such as ``training.learning_rate`` or ``method.options.tau``."""

    methods: Annotated[list[str], Some]
    ratios: Annotated[list[Ratio], Some]
    loops: Count = 3
    sets: Sets = ["fresh"]  # noqa: RUF012 (pydantic copies it)
    seeds: Annotated[list[Whole], Some] | None = None  # the round's own
    settings: Annotated[list[dict[str, Any]], Some]  # method.* are of the method that is tried


class Search(Section):
    """A file of trials: their seeds, and rounds in the order in which they are made."""

    seeds: Annotated[list[Whole], Some]
    rounds: Annotated[dict[str, Round], Some]

    @model_validator(mode="after")
    def _same_effort(self) -> "Search":
        """As many trials of a recipe for each method, and as many of options for those with any."""
        for kind in ("training.", "method."):
            tried = Counter[str]()
            for part in self.rounds.values():
                count = sum(any(name.startswith(kind) for name in s) for s in part.settings)
                tried.update({method: count for method in part.methods if count})
            if len({*tried.values()}) > 1:
                raise ValueError(f"{kind}* has unequal numbers of settings ({dict(tried)})")
        return self


def search(profile: str, rounds: Collection[str] = (), root: Path = Path()) -> pd.DataFrame:
    """Make the trials that are not there, of all rounds or of those named, and keep their means.

    These are validation accuracies after the last step, in percent. BadInput if there is no such
    round, a setting is wrong, or a seed is one of the profile's.
    """
    chosen = list(trials(profile, rounds, root))
    store = RunStore(root / "data/generated" / profile / "search")
    jobs = {run.method: job for _, job, runs in chosen for run in runs}
    make_runs(jobs, list(dict.fromkeys(run for *_, runs in chosen for run in runs)), store.folder)
    lines = []
    for line, _, runs in chosen:
        tests = pd.DataFrame([content["result"]["test"] for content in store.load_all(runs)])
        own = tests["accuracy"]
        means = {"n": len(own), "mean": own.mean(), "standard_error": own.sem()}
        lines.append(line | means | {"mean_class": tests["mean_class_accuracy"].mean()})
    table = kept = pd.DataFrame(lines)
    path = root / "reports" / profile / "search.csv"
    if rounds and path.is_file():
        before = pd.read_csv(path)
        kept = pd.concat([before[~before["round"].isin(list(rounds))], table])
    write_table(kept, path)
    return table


def trials(
    profile: str, rounds: Collection[str], root: Path
) -> Iterator[tuple[dict[str, Any], Job, list[Run]]]:
    """Each trial, in order: its line in the table, its job, and a run for each seed."""
    path = settings.profile_path(profile, root / "profiles")
    where = root / "profiles/search" / path.name
    content = settings.spelt_out(settings.read_yaml(path), str(path))
    plan: Search = settings.checked(settings.read_yaml(where), str(where), Search)
    for name in rounds:
        one_of(name, plan.rounds, f"round of {where}")
    seeds = {*plan.seeds, *(seed for part in plan.rounds.values() for seed in part.seeds or ())}
    if both := sorted(seeds & {*settings.read(path).seeds}):
        raise BadInput(f"{where}: seeds {both} are also the profile's; a search needs its own.")
    made = root / "data/generated" / profile
    files = (root / "data", made / "inputs.json", made / "embeddings")
    for name in [name for name in plan.rounds if name in (rounds or plan.rounds)]:
        part = plan.rounds[name]
        for method, setting in product(part.methods, part.settings):
            one_of(method, content["methods"], f"method, but {where} has it")
            changes = {"dataset.blind": True}
            changes |= {
                re.sub(r"^method\.", f"methods.{method}.", n): v for n, v in setting.items()
            }
            new = settings.checked(settings.change(content, changes), str(where))
            whole = new.model_dump(mode="json")
            own = whole["methods"][method]
            own["domains"] = []  # theirs are test images
            job = Job(whole, method, *files)
            key = f"{method}-{sha256_json([own, whole['training']])[:12]}"
            full = own["select"] == FULL
            text = ", ".join(f"{name} {value}" for name, value in setting.items())
            places: Any = [(100.0, "fresh")] if full else product(part.ratios, part.sets)
            for ratio, sets in places:
                same = (whole["dataset"]["name"], key, not full, ratio, part.loops)
                line = {"round": name, "method": method, "setting": text, "ratio": ratio}
                runs = [Run(*same, seed, sets=sets) for seed in part.seeds or plan.seeds]
                yield line | {"sets": sets}, job, runs

"""Try settings on the validation split: ``python -m vecaf_lib.pipeline.search PROFILE``

The trials stand in ``profiles/search/PROFILE.yaml``: rounds of methods times settings, with seeds
that the evidence does not use. No trial reads a test image. Each is kept as soon as it ends and is
not made again; their means go to ``reports/PROFILE/search.csv``. The embeddings must be there (`dvc
repro` up to the stage embeddings).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import yaml
from pydantic import Field, ValidationError

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.job import Job
from vecaf_lib.pipeline.profile import profile_path
from vecaf_lib.pipeline.runs import make_runs
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.pipeline.variants import views
from vecaf_lib.report.stats import summary
from vecaf_lib.report.tables import to_csv
from vecaf_lib.settings.base import Count, Ratio, Section
from vecaf_lib.settings.errors import sentences

PROFILES, SEARCHES = Path("profiles"), Path("profiles/search")
GENERATED, REPORTS, DATA = Path("data/generated"), Path("reports"), Path("data")
FULL = "full"
OWN = "method."  # settings of the method itself begin so, all others are the profile's


class Round(Section):
    """Methods times settings: ``{training.learning_rate: 0.01}``, ``{method.options.tau: 0.5}``."""

    methods: Annotated[list[str], Field(min_length=1)]
    ratios: Annotated[list[Ratio], Field(min_length=1)]
    loops: Count = 3
    settings: Annotated[list[dict[str, Any]], Field(min_length=1)]


class Search(Section):
    """A file of trials: their seeds, and rounds in the order in which they are made."""

    seeds: Annotated[list[int], Field(min_length=1)]
    rounds: Annotated[dict[str, Round], Field(min_length=1)]


def read(path: Path) -> Search:
    """Read and check a file of trials.

    Raises:
        BadInput: it is missing or wrong; a sentence a problem.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing: it names the trials of the search.")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return Search.model_validate(content)
    except ValidationError as error:
        told = "\n".join(f"{path}: {problem}" for problem in sentences(error, Search))
        raise BadInput(told) from error


def changed(
    content: Mapping[str, Any], method: str, setting: Mapping[str, Any]
) -> settings.Settings:
    """The profile with some settings changed, checked as a whole.

    Args:
        content: of the profile's file.
        method: whose settings begin with ``method.``.
        setting: dotted names and values.

    Raises:
        BadInput: there is no such setting or method, or the value is wrong.
    """
    new = json.loads(json.dumps(content))  # YAML's aliases are one object in several places
    if method not in new["methods"]:
        known = cli.suggestion(method, list(new["methods"]))
        raise BadInput(f"The search names the method {method!r}; {known}.")
    for name, value in setting.items():
        own = name.startswith(OWN)
        *place, last = name.removeprefix(OWN).split(".")
        part = new["methods"][method] if own else new
        for key in place:
            part = part.setdefault(key, {})
        part[last] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "changed.yaml")
        path.write_text(yaml.safe_dump(new), encoding="utf-8")
        return settings.read(path)


class Trial(NamedTuple):
    """One method with one setting at one ratio: a run for each seed of the search."""

    round: str
    method: str
    setting: dict[str, Any]
    job: Job
    runs: list[RunSpec]


def trials(search: Search, content: Mapping[str, Any], profile: str) -> Iterator[Trial]:
    """All trials of a search, in order.

    The name under which a trial is kept says what it tries, so that a changed file of trials finds
    those it had before.
    """
    made = GENERATED / profile
    for round_name, part in search.rounds.items():
        for method in part.methods:
            for setting in part.settings:
                whole = changed(content, method, setting).model_dump(mode="json")
                own = whole["methods"][method] | {"domains": []}  # whose images are of the test
                shared = {name: whole[name] for name in ("vision", "text", "domains")}
                view = views(own, **shared)
                job = Job(
                    dataset=whole["dataset"],
                    vision=view.vision,
                    training=whole["training"],
                    method=own,
                    compute=whole["compute"],
                    domains=whole["domains"],
                    data=DATA,
                    inputs=made / "inputs.json",
                    text=view.text_file(made / "embeddings"),
                    image=view.image_file(made / "embeddings"),
                    runs=made / "search",
                    blind=True,
                )
                tried = {key: value for key, value in own.items() if key != "grid"}
                name = f"{method}-{sha256_json([tried, whole['training']])[:12]}"
                full = own["select"] == FULL
                for ratio in [100.0] if full else part.ratios:
                    runs = [
                        RunSpec(whole["dataset"]["name"], name, not full, ratio, part.loops, seed)
                        for seed in search.seeds
                    ]
                    yield Trial(round_name, method, setting, job, runs)


def run(profile: str) -> pd.DataFrame:
    """Make the trials that are not there and return their means, a row a setting and ratio.

    Returns:
        round, method, setting, ratio (percent), n, mean and standard_error of the last step's
        validation accuracy and mean_class of that by class (percent).
    """
    path = profile_path(profile, PROFILES)
    search = read(SEARCHES / f"{profile}.yaml")
    settings.read(path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if both := sorted(set(content["seeds"]) & set(search.seeds)):
        raise BadInput(f"seeds: {both} are also those of the profile; a search needs its own.")
    wanted = list(trials(search, content, profile))
    jobs = {trial.runs[0].method: trial.job for trial in wanted}
    make_runs(jobs, list(dict.fromkeys(spec for trial in wanted for spec in trial.runs)))
    lines = []
    for trial in wanted:
        store = RunStore(trial.job.runs)
        found = {spec.seed: store.load(spec)["result"] for spec in trial.runs}
        told = summary({seed: result["test_accuracy"] for seed, result in found.items()})
        by_class = summary({s: r["test"]["mean_class_accuracy"] for s, r in found.items()})
        lines.append(
            {
                "round": trial.round,
                "method": trial.method,
                "setting": ", ".join(f"{k} {v}" for k, v in trial.setting.items()),
                "ratio": trial.runs[0].ratio,
                "n": told.n,
                "mean": told.mean,
                "standard_error": told.standard_error,
                "mean_class": by_class.mean,
            }
        )
    return pd.DataFrame(lines)


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.search")
    parser.add_argument("profile", metavar="PROFILE")
    profile = parser.parse_args(arguments).profile
    table = run(profile)
    to_csv(table, REPORTS / profile / "search.csv")
    print(table.round(2).to_string(index=False))


if __name__ == "__main__":
    cli.run(main)

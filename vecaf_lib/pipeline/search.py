"""Try settings on the validation split: ``python -m vecaf_lib.pipeline.search PROFILE [ROUND ...]``

The trials stand in ``profiles/search/PROFILE.yaml``: rounds of methods times settings, with seeds
that the evidence does not use. No trial reads a test image. Each is kept as soon as it ends and is
not made again; their means go to ``reports/PROFILE/search.csv``. Where rounds are named, only these
are made, and the other rounds' lines stay as they are. The embeddings must be there (`dvc repro` up
to the stage embeddings).
"""

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from vecaf_lib import settings
from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json
from vecaf_lib.pipeline import cli
from vecaf_lib.pipeline.job import Job
from vecaf_lib.pipeline.profile import profile_path
from vecaf_lib.pipeline.runs import make_runs
from vecaf_lib.pipeline.search_file import Search, changed, read
from vecaf_lib.pipeline.store import RunSpec, RunStore
from vecaf_lib.pipeline.variants import views
from vecaf_lib.report.stats import summary
from vecaf_lib.report.tables import to_csv

PROFILES, SEARCHES = Path("profiles"), Path("profiles/search")
GENERATED, REPORTS, DATA = Path("data/generated"), Path("reports"), Path("data")
FULL = "full"


class Trial(NamedTuple):
    """One method with one setting at one ratio: a run for each seed of the search."""

    round: str
    method: str
    setting: dict[str, Any]
    job: Job
    runs: list[RunSpec]


def trials(
    search: Search, content: Mapping[str, Any], profile: str, rounds: Collection[str] = ()
) -> Iterator[Trial]:
    """The trials of a search, in order; of all rounds, or of those named.

    The name under which a trial is kept says what it tries, so that a changed file of trials finds
    those it had before.
    """
    made = GENERATED / profile
    for round_name, part in search.rounds.items():
        if rounds and round_name not in rounds:
            continue
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
                        for seed in search.seeds_of(round_name)
                    ]
                    yield Trial(round_name, method, setting, job, runs)


def run(profile: str, rounds: Collection[str] = ()) -> pd.DataFrame:
    """Make the trials that are not there and return their means, a row a setting and ratio.

    Args:
        profile: its name.
        rounds: names of those to make; none names all.

    Returns:
        round, method, setting, ratio (percent), n, mean and standard_error of the last step's
        validation accuracy and mean_class of that by class (percent).

    Raises:
        BadInput: no such round, or a seed is one of the profile's.
    """
    path = profile_path(profile, PROFILES)
    search = read(SEARCHES / f"{profile}.yaml")
    settings.read(path)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name in rounds:
        if name not in search.rounds:
            known = cli.suggestion(name, list(search.rounds))
            raise BadInput(f"{SEARCHES / f'{profile}.yaml'} has no round {name!r}; {known}.")
    used = {seed for name in search.rounds for seed in search.seeds_of(name)}
    if both := sorted(set(content["seeds"]) & used):
        raise BadInput(f"seeds: {both} are also those of the profile; a search needs its own.")
    wanted = list(trials(search, content, profile, rounds))
    jobs = {trial.runs[0].method: trial.job for trial in wanted}
    make_runs(jobs, list(dict.fromkeys(spec for trial in wanted for spec in trial.runs)))
    return pd.DataFrame([_line(trial) for trial in wanted])


def _line(trial: Trial) -> dict[str, Any]:
    """What a finished trial came to."""
    store = RunStore(trial.job.runs)
    found = {spec.seed: store.load(spec)["result"] for spec in trial.runs}
    told = summary({seed: result["test_accuracy"] for seed, result in found.items()})
    by_class = summary({s: r["test"]["mean_class_accuracy"] for s, r in found.items()})
    return {
        "round": trial.round,
        "method": trial.method,
        "setting": ", ".join(f"{k} {v}" for k, v in trial.setting.items()),
        "ratio": trial.runs[0].ratio,
        "n": told.n,
        "mean": told.mean,
        "standard_error": told.standard_error,
        "mean_class": by_class.mean,
    }


def main(arguments: Sequence[str]) -> None:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m vecaf_lib.pipeline.search")
    parser.add_argument("profile", metavar="PROFILE")
    parser.add_argument("rounds", nargs="*", metavar="ROUND", help="make these rounds alone")
    options = parser.parse_args(arguments)
    table = run(options.profile, options.rounds)
    print(table.round(2).to_string(index=False))
    path = REPORTS / options.profile / "search.csv"
    if options.rounds and path.is_file():
        before = pd.read_csv(path)
        table = pd.concat([before[~before["round"].isin(options.rounds)], table])
    to_csv(table, path)


if __name__ == "__main__":
    cli.run(main)

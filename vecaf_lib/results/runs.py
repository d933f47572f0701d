"""The runs of a profile, and one checked file for each: what was measured, what it came from."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vecaf_lib.errors import BadInput
from vecaf_lib.files import RUN_SUFFIX, file_name, read_run, sha256_json, write_run

FORMAT = "vecaf-run-1"
OLDER = {"sets": "fresh", "reading": ""}  # what files of older runs do not name
FULL = "full"  # selects nothing: the whole pool, once


@dataclass(frozen=True)
class Run:
    """What tells one run from another within a profile."""

    dataset: str  # such as "digits"
    method: str  # such as "vecaf"
    multi_run: bool  # a selection in each loop, or one for all
    # what a loop finetunes on: the set it selects, or all sets so far; fresh if there is only one
    sets: Literal["fresh", "kept"] = field(default="fresh", kw_only=True)
    ratio: float  # selected share of the pool, in percent
    loops: int
    seed: int  # from which all random streams of the run derive
    target: str = ""  # class that is told from all others; empty where all are told apart
    # of a target: "" finetunes and selects with the 1-vs-all loss, "selection" only selects with it
    reading: Literal["", "selection"] = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", float(self.ratio))  # 5 and 5.0 are one run, one file

    @property
    def name(self) -> str:
        """The run within its method, such as ``multi-kept-r5-l3-s0`` or ``multi-r5-l3-s0-tcat``.

        The class is behind ``t``, or behind ``s`` where only the selection has the 1-vs-all loss.
        """
        kind = ("multi" if self.multi_run else "single") + "-kept" * (self.sets == "kept")
        loss = "s" if self.reading else "t"
        target = f"-{loss}{file_name(self.target)}" if self.target else ""
        ratio = repr(self.ratio).removesuffix(".0")
        return f"{kind}-r{ratio}-l{self.loops}-s{self.seed}{target}"

    @property
    def file(self) -> str:
        """The run's file below the folder of runs."""
        return f"{self.method}/{self.name}{RUN_SUFFIX}"


def runs_of(settings: Any) -> list[Run]:
    """What the tables and figures of validated settings (or their JSON) ask for, each run once."""
    if not isinstance(settings, Mapping):
        settings = settings.model_dump(mode="json")
    methods, tables, figures = (settings[name] for name in ("methods", "tables", "figures"))
    order = sorted(tables, key=lambda name: (not name.startswith("table"), name))
    curves = figures | {"ratios": [figures["ratio"]], "loops": [figures["loops"]]}
    runs: list[Run] = []
    for table in [*(tables[name] for name in order), curves]:
        rows = [(name, True) for name in table["methods"]]
        rows += [(name, False) for name in table.get("single_run", ())]
        targets = table.get("targets") or [""]
        readings = table.get("readings", ["finetuning"]) if any(targets) else ["finetuning"]
        for name, anew in (row for row in rows if row[0] not in table.get("optional", ())):
            full = methods[name]["select"] == FULL
            multi_run = anew and not full
            places = itertools.product(
                table.get("sets", ["fresh"]) if multi_run else ["fresh"],
                readings,
                [100.0] if full else table["ratios"],
                table["loops"],
                table.get("seeds") or settings["seeds"][: methods[name]["repetitions"]],
                targets,
            )
            for sets, reading, *place in places:
                runs.append(
                    Run(
                        settings["dataset"]["name"],
                        name,
                        multi_run,
                        *place,
                        sets=sets,
                        reading=reading.replace("finetuning", ""),
                    )
                )
    return list(dict.fromkeys(runs))


@dataclass(frozen=True)
class RunStore:
    """The folder of run files: each whole or absent, so that a crash loses one run at most."""

    folder: Path

    def save(self, run: Run, result: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Write a finished run; BadInput if a number is not finite, or the disk is full."""
        content = {"format": FORMAT, "run": asdict(run), "result": result, "provenance": provenance}
        try:
            content = json.loads(json.dumps(content, allow_nan=False))  # tuples to lists, as read
        except ValueError as error:
            raise BadInput(
                f"{run.file} has a NaN or infinite result, not stored; lower the learning rate."
            ) from error
        write_run(self.folder / run.file, content | {"checksum": sha256_json(content)})

    def load(self, run: Run) -> dict[str, Any]:
        """Read a run; BadInput if its file is missing, damaged, of another format or run."""
        path = self.folder / run.file
        content = read_run(path)
        checksum = content.pop("checksum", None) if isinstance(content, dict) else None
        if checksum != sha256_json(content) or content.get("format") != FORMAT:
            fault = "is damaged (its checksum or format does not fit)"
        elif OLDER | content.get("run", {}) != asdict(run):
            fault = f"holds another run ({content.get('run')})"
        else:
            return content
        raise BadInput(f"{path} {fault}; delete it and run `dvc repro` to repeat the run.")

    def finished(self, run: Run, digest: str) -> bool:
        """Whether the run is stored undamaged and came from the code and inputs of ``digest``."""
        try:
            return bool(self.load(run)["provenance"]["digest"] == digest)
        except (BadInput, KeyError):
            return False

    def load_all(self, runs: Sequence[Run]) -> list[dict[str, Any]]:
        """Read exactly these runs, in this order; BadInput if some are missing or damaged."""
        if missing := [run.file for run in runs if not (self.folder / run.file).exists()]:
            names = ", ".join([*missing[:3], "..."] if len(missing) > 3 else missing)
            raise BadInput(
                f"{len(missing)} of {len(runs)} runs are missing in {self.folder} ({names}); "
                "`dvc repro` makes them."
            )
        return [self.load(run) for run in runs]

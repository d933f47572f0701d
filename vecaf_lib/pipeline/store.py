"""The run store: one file a run, whole or absent, checked whenever it is read."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vecaf_lib.errors import BadInput
from vecaf_lib.files import sha256_json
from vecaf_lib.run_files import SUFFIX, read_run, write_run

FORMAT = "vecaf-run-1"
_KEYS = frozenset({"format", "run", "result", "provenance", "checksum"})


@dataclass(frozen=True)
class RunSpec:
    """What tells one run from another within a profile.

    Args:
        dataset: e.g. ``digits``.
        method: e.g. ``vecaf``.
        multi_run: a fresh selection each loop (True), or one selection for all (False).
        ratio: selected share of the pool, in percent.
        loops: number of loops.
        seed: the seed that all random streams of the run derive from.
        target: class that is told from all others; empty where all are told apart.
    """

    dataset: str
    method: str
    multi_run: bool
    ratio: float
    loops: int
    seed: int
    target: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", float(self.ratio))  # 5 and 5.0 are one run, one file

    @property
    def name(self) -> str:
        """The run's short name, e.g. ``multi-r5-l3-s0``, or ``multi-r5-l3-s0-tcat``."""
        kind = "multi" if self.multi_run else "single"
        target = "-t" + re.sub(r"\W+", "_", self.target) if self.target else ""
        return f"{kind}-r{self.ratio:g}-l{self.loops}-s{self.seed}{target}"

    def path(self, root: Path) -> Path:
        """The run's file below the profile's folder of runs."""
        return root / self.method / f"{self.name}{SUFFIX}"


def specs(
    dataset: str, name: str, method: Mapping[str, Any], seeds: Sequence[int]
) -> list[RunSpec]:
    """The runs of one method: the blocks of its grid times its seeds, each once.

    Args:
        dataset: name.
        name: of the method.
        method: its settings; ``repetitions`` leaves it the first of the seeds, and a block of its
            grid may have seeds of its own.
        seeds: of the profile.
    """
    wanted = [
        RunSpec(dataset, name, multi_run, ratio, loops, seed, target)
        for block in method["grid"]
        for multi_run in block["multi_run"]
        for ratio in block["ratios"]
        for loops in block["loops"]
        for target in block.get("targets") or [""]
        for seed in block.get("seeds") or seeds[: method.get("repetitions")]
    ]
    return list(dict.fromkeys(wanted))


class RunStore:
    """Runs of one profile, each in a file of its own, so that a crash loses one run at most."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(self, spec: RunSpec, result: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Write a finished run.

        Args:
            spec: which run it is.
            result: what was measured; finite numbers, strings, lists and dicts.
            provenance: what it came from; ``provenance["digest"]`` is what ``finished`` compares.

        Raises:
            BadInput: a number is NaN or infinite, or the disk is full.
        """
        path = spec.path(self.root)
        content = {
            "format": FORMAT,
            "run": asdict(spec),
            "result": result,
            "provenance": provenance,
        }
        try:
            content = json.loads(json.dumps(content, allow_nan=False))  # tuples to lists, as read
        except ValueError as error:
            raise BadInput(
                f"Run {spec.method} {spec.name} has a NaN or infinite result and was not stored; "
                "lower the learning rate or look for the cause in its loss curve."
            ) from error
        write_run(path, content | {"checksum": sha256_json(content)})

    def sweep(self, method: str) -> None:
        """Remove the unfinished copies of run files that a kill left in a method's folder.

        Only for the one process that makes the method's runs, before it starts.
        """
        for part in (self.root / method).glob(".*.part"):
            part.unlink(missing_ok=True)

    def load(self, spec: RunSpec) -> dict[str, Any]:
        """Read a run and check its format, its checksum and that it is the run asked for.

        Raises:
            BadInput: the file is missing, damaged, of another format or of another run.
        """
        path = spec.path(self.root)
        content = read_run(path)
        again = "delete it and run `dvc repro` to repeat the run"
        if not isinstance(content, dict) or not content.keys() >= _KEYS:
            raise BadInput(f"{path} is damaged (parts of a run file are missing); {again}.")
        if content["format"] != FORMAT:
            raise BadInput(f"{path} has the format {content['format']!r}, not {FORMAT!r}; {again}.")
        rest = {key: value for key, value in content.items() if key != "checksum"}
        if sha256_json(rest) != content["checksum"]:
            raise BadInput(f"{path} is damaged (its checksum does not fit its content); {again}.")
        if content["run"] != asdict(spec):
            raise BadInput(f"{path} holds another run ({content['run']}); {again}.")
        return content

    def finished(self, spec: RunSpec, digest: str) -> bool:
        """Whether the run is stored undamaged and came from the code and inputs of ``digest``."""
        try:
            content = self.load(spec)
        except BadInput:
            return False
        provenance = content["provenance"]
        return isinstance(provenance, dict) and provenance.get("digest") == digest

    def load_grid(self, specs: Sequence[RunSpec]) -> list[dict[str, Any]]:
        """Read exactly these runs, in this order, whatever else lies in the folder.

        Raises:
            BadInput: one or more are missing (the sentence names up to three), or one is damaged.
        """
        missing = [spec for spec in specs if not spec.path(self.root).exists()]
        if missing:
            names = ", ".join(f"{spec.method} {spec.name}" for spec in missing[:3])
            more = ", ..." if len(missing) > 3 else ""
            raise BadInput(
                f"{len(missing)} of {len(specs)} runs are missing in {self.root} ({names}{more}); "
                "`dvc repro` makes them."
            )
        return [self.load(spec) for spec in specs]

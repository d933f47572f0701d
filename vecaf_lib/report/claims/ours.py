"""Our tables, and what they say to a claim."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from vecaf_lib.errors import BadInput
from vecaf_lib.report.behind import behind
from vecaf_lib.report.claims.batch_ratio import batch_ratios
from vecaf_lib.report.claims.found import Found
from vecaf_lib.report.claims.paper import Paper
from vecaf_lib.report.claims.statements import Claim
from vecaf_lib.report.stats import paired_difference
from vecaf_lib.report.verdicts import Effect, Number


@dataclass
class Ours:
    """Our tables, and how each kind of test is looked up in them."""

    tables: Mapping[str, pd.DataFrame]
    runs_dir: Path | None
    cells: dict[str, pd.Series] = field(init=False)

    def __post_init__(self) -> None:
        self.cells = {
            str(line["cell"]): line
            for table in self.tables.values()
            if {"cell", "mean"} <= set(table)
            for _, line in table.iterrows()
            if line.get("n", 1)  # a line without runs says nothing
        }

    def look(
        self, claim: Claim, paper: Paper, sizes: Mapping[str, float], dataset: str | None
    ) -> Found:
        """What our tables say to a claim.

        Args:
            sizes: our cell's id -> the paper's number, in the paper's setting only.
            dataset: the paper's data set in the paper's setting, else None.
        """
        if claim.kind in ("contradiction", "setting"):
            return Found()
        if claim.ours or not claim.test:
            return self._printed(claim, paper)
        found = Found()
        for kind, spec in claim.test:
            if kind == "cost":
                return self._cost(spec)
            if kind == "difference":
                more = self._differences(spec, sizes)
            elif kind == "ratio_of_batches":
                more = batch_ratios(
                    self._table("batches", "target"), spec, _targets(paper, dataset)
                )
            else:
                raise BadInput(f"{paper.file}: {claim.id} has the test {kind!r}, which is unknown.")
            found = replace(
                more,
                effects=found.effects + more.effects,
                missing=found.missing + more.missing,
                cells=found.cells + more.cells,
                runs=found.runs + more.runs,
            )
        if not math.isnan(claim.number.value):
            effects = (replace(effect, paper=claim.number.value) for effect in found.effects)
            found = replace(found, effects=tuple(effects))
        return found

    def _printed(self, claim: Claim, paper: Paper) -> Found:
        """Our cell of a printed number."""
        if not claim.ours:
            return Found(missing=("a test of it",))
        if " " in claim.ours:
            (variant, _, part), ours = claim.ours.partition(" "), paper.content["table4"]
            asked = {"variant": ours["variants"][variant], "parts": ours["parts"][part]}
            return self._cost({"first": asked})
        ids = [id for id in self.cells if fnmatchcase(id, claim.ours)]
        if len(ids) != 1:
            return Found()
        line = self.cells[ids[0]]
        number = Number(float(line["mean"]), float(line["standard_error"]), int(line["n"]))
        return Found(number, cells=((ids[0],),), runs=tuple(line["runs"].split()))

    def _cost(self, spec: Mapping[str, Any]) -> Found:
        """GFLOPs of parts of Table 4, or the quotient of two such sums; counted, so without seeds.

        A part that a variant does not have costs nothing; one that was not counted leaves no sum.
        """
        values, ids = [], []
        for asked in (spec[key] for key in ("first", "second") if key in spec):
            table = self._table("table4", "variant", "part")
            rows = table[
                (table["variant"] == asked["variant"]) & table["part"].isin(asked["parts"])
            ]
            if rows.empty or rows["gflops"].isna().any():
                return Found()
            values.append(math.fsum(rows["gflops"]))
            ids += [str(cell) for cell in rows["cell"]]
        value = values[0] if len(values) == 1 else spec.get("times", 1) * values[0] / values[1]
        return Found(Number(value), cells=(tuple(dict.fromkeys(ids)),))

    def _table(self, name: str, *columns: str) -> pd.DataFrame:
        """A table, or one with these columns and no lines where a profile has none."""
        return self.tables.get(name, pd.DataFrame(columns=["method", *columns]))

    def _differences(self, spec: Mapping[str, Any], sizes: Mapping[str, float]) -> Found:
        """Paired differences between cells."""
        effects, missing, cells = [], [], []
        for first, second in self._pairs(spec, sizes):
            absent = [id for id in (first, second) if id not in self.cells]
            found = None if absent else self._paired(first, second)
            if found is None:
                missing += absent or [f"the runs of {first} and {second}"]
                continue
            size = sizes.get(first, math.nan) - sizes.get(second, math.nan)
            effects.append(replace(found, paper=size))
            cells.append((first, second))
        runs = (run for id in itertools.chain(*cells) for run in self.cells[id]["runs"].split())
        return Found(
            None,
            tuple(effects),
            tuple(dict.fromkeys(missing)),
            spec.get("expect", "higher"),
            spec.get("up_to", False),
            tuple(cells),
            tuple(dict.fromkeys(runs)),
        )

    def _pairs(self, spec: Mapping[str, Any], sizes: Iterable[str]) -> list[tuple[str, str]]:
        """The ids of the cells that are compared.

        ``all`` values are those of the paper's cells ``sizes``, or else of ours.
        """
        if "pairs" in spec:
            return [(first, second) for first, second in spec["pairs"]]
        over = dict(spec.get("over", {}))
        for name, values in over.items():
            if values == "all":
                pattern = re.escape(spec["first"]).replace(rf"\{{{name}\}}", "([^/]+)", 1)
                pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", pattern)
                hits = [
                    list(
                        dict.fromkeys(
                            hit[1] for hit in map(re.compile(pattern).fullmatch, ids) if hit
                        )
                    )
                    for ids in (sizes, self.cells)
                ]
                over[name] = hits[0] or hits[1] or ["?"]
        return [
            (spec["first"].format(**fill), spec["second"].format(**fill))
            for values in itertools.product(*over.values())
            for fill in [dict(zip(over, values, strict=True))]
        ]

    def _paired(self, first: str, second: str) -> Effect | None:
        """First minus second: from the table if it is there, else from the run files."""
        one, other = self.cells[first], self.cells[second]
        n = int(min(one["n"], other["n"]))
        for line, target, sign in ((one, second, 1), (other, first, -1)):
            for column in line.index:
                if str(column).endswith("_cell") and line[column] == target:
                    name = str(column).removesuffix("_cell")
                    low, high = (sign * float(line[f"{name}{end}"]) for end in ("_low", "_high"))
                    low, high = (low, high) if sign > 0 else (high, low)
                    return Effect(sign * float(line[name]), low, high, n)
        if self.runs_dir is None:
            return None
        seeds, others = (
            {seed: run.test for seed, run in behind(line, self.runs_dir).items()}
            for line in (one, other)
        )
        found = paired_difference(seeds, others)
        return Effect(found.mean, found.low, found.high, found.n)


def _targets(paper: Paper, dataset: str | None) -> list[float] | None:
    """The paper's target accuracies of a data set, or None for all of ours."""
    if dataset is None:
        return None
    asked = {"table": "figures", "quantity": "target accuracy", "dataset": dataset}
    return [float(value) for value in paper.rows(asked, "the targets")["value"]]

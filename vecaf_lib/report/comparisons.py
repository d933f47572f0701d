"""Tables 2, 3 and 5 of the paper in our numbers, and the table of what the paper leaves open."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from vecaf_lib.report.cells import Cell, Row, cell, record
from vecaf_lib.report.frame import frame, in_domain
from vecaf_lib.report.names import FULL, VECAF
from vecaf_lib.report.paper import nearest

MOST = 3  # settings that a line of a table names
CONTROL = "hashed"  # the text encoder without meaning


class Grid:
    """The runs, and what all cells of these tables have in common."""

    def __init__(
        self,
        runs: Sequence[Mapping[str, Any]],
        methods: Mapping[str, Any],
        *,
        labels: Mapping[str, str],
        ratio: float,
        loops: int,
        seeds: Sequence[int],
    ) -> None:
        """Keep them.

        Args:
            runs: run files.
            methods: section of the settings, whole: tables also name methods without runs.
            labels: method -> which labels its selection may see.
            ratio: percent of the pool selected in a loop.
            loops: selection loops.
            seeds: the paired seeds.
        """
        self.runs, self.methods, self.labels = runs, methods, labels
        self.ratio, self.loops, self.seeds = ratio, loops, seeds

    def cell(self, id: str, method: str, table: pd.DataFrame, target: str = "") -> Cell:
        """The multi-run cell of one method; one that trains on all data selects once."""
        own = self.methods[method]
        whole = own["select"] == FULL
        row = Row(method, not whole, self.labels[method], own.get("repetitions"))
        return cell(
            table,
            id=id,
            row=row,
            ratio=100.0 if whole else self.ratio,
            loops=self.loops,
            seeds=self.seeds,
            target=target,
        )


def table2(grid: Grid, methods: Sequence[str], paper: pd.DataFrame) -> pd.DataFrame:
    """Table 2: one class told from all others, for each class that the methods' grids name.

    Each row is compared with ActiveFT on the same class. ``mean`` is the mean of recall and
    specificity, see ``vecaf_lib.objective``.
    """
    runs, lines = frame(grid.runs), []
    targets = dict.fromkeys(
        target
        for name in methods
        for block in grid.methods[name]["grid"]
        for target in block["targets"]
    )
    for target in targets:
        cells = {name: grid.cell(f"table2/{name}/{target}", name, runs, target) for name in methods}
        for name, own in cells.items():
            theirs = nearest(paper, {"method": name, "target_class": target}, grid.ratio)
            line = record(own, {"activeft": cells.get("activeft")}, theirs)
            lines.append({"cell": line.pop("cell"), "target": target} | line)
    return pd.DataFrame(lines)


def table3(grid: Grid, methods: Sequence[str], domains: Mapping[str, Any]) -> pd.DataFrame:
    """Table 3: accuracy in each target domain, by severity and on average.

    A method with a ``domain`` of its own is shown in that domain alone. One that has no runs, for
    want of its weights, has lines with n = 0.
    """
    lines = []
    for domain, section in domains.items():
        here = [name for name in methods if grid.methods[name]["domain"] in (None, domain)]
        shown = [name for name in here if name in grid.labels]
        for severity in ["mean", *map(str, section["severities"])]:
            table = in_domain(grid.runs, domain, severity)
            cells = {}
            for name in shown:
                short = name.removesuffix(f"_{domain}")
                id = f"table3/{short}/{domain}/{severity}"
                cells[short] = grid.cell(id, name, table)
            for own in cells.values():
                line = record(own, {"full": cells.get(FULL), "activeft": cells.get("activeft")}, {})
                lines.append(
                    {"cell": line.pop("cell"), "domain": domain, "severity": severity} | line
                )
        for name in here:
            if name not in grid.labels:
                short = name.removesuffix(f"_{domain}")
                empty = {"selection": "single", "labels": "–", "loops": grid.loops, "n": 0}
                place = {"domain": domain, "severity": "mean", "method": short}
                lines.append({"cell": f"table3/{short}/{domain}/mean"} | place | empty)
    return pd.DataFrame(lines)


def table5(grid: Grid, methods: Sequence[str], own: tuple[str, str]) -> pd.DataFrame:
    """Table 5: vision models by text encoders; each is compared with the text without meaning.

    Args:
        own: vision model and text encoder of the profile, for methods that name none.
    """
    runs, cells = frame(grid.runs), {}
    for name in methods:
        method = grid.methods[name]
        vision = method["vision"]["name"] if method["vision"] else own[0]
        text = method["text"]["name"] if method["text"] else own[1]
        cells[vision, text] = grid.cell(f"table5/{vision}/{text}", name, runs)
    lines = []
    for (vision, text), each in cells.items():
        line = record(each, {"hashed": cells.get((vision, CONTROL))}, {})
        lines.append({"cell": line.pop("cell"), "vision": vision, "text": text} | line)
    return pd.DataFrame(lines)


def decisions(
    grid: Grid, methods: Sequence[str], *, table: str = "decisions", base: str = VECAF
) -> pd.DataFrame:
    """What each open point of the paper, decided otherwise, does to VeCAF.

    Args:
        grid: the runs.
        methods: those that differ from ``base``.
        table: begins the ids of the cells.
        base: with what they are compared; the variant's parts are compared with the variant.
    """
    runs = frame(grid.runs)
    cells = {name: grid.cell(f"{table}/{name}", name, runs) for name in [base, *methods]}
    lines = []
    for name, own in cells.items():
        line = record(own, {base: cells[base]}, {})
        change = (
            "as in Table 1" if name == base else changed(grid.methods[name], grid.methods[base])
        )
        lines.append({"cell": line.pop("cell"), "change": change} | line)
    return pd.DataFrame(lines)


def changed(method: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    """The settings in which a method differs from another: ``tau 0.07 -> 1.0``.

    Of more than three, two are named and the rest counted: it is another method then. Grids,
    repetitions, and settings that only one of the two has do not count, unless all of it differs.
    """
    parts = []
    for name in method:
        ours, theirs = method[name], base.get(name)
        if name in ("grid", "repetitions") or ours == theirs:
            continue
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            common = [key for key in ours if key in theirs and ours[key] != theirs[key]]
            parts += [f"{key.rstrip('_')} {theirs[key]} → {ours[key]}" for key in common]
        else:
            parts.append(f"{name} {_plain(theirs)} → {_plain(ours)}")
    if len(parts) > MOST:
        parts = [*parts[: MOST - 1], f"{len(parts) - MOST + 1} more"]
    return "; ".join(parts)


def _plain(value: Any) -> str:
    return "off" if value is None else "on" if isinstance(value, Mapping) else str(value)

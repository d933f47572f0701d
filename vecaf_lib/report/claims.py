"""The ledger of claims: each number and comparison of the paper, beside ours, with a verdict."""

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from scipy import stats

from vecaf_lib.errors import BadInput
from vecaf_lib.files import read_json
from vecaf_lib.report import tables as report_tables
from vecaf_lib.report.grid import accuracy_text
from vecaf_lib.report.names import FULL, percent, slug
from vecaf_lib.report.stats import paired_difference
from vecaf_lib.report.verdicts import Effect, Expect, Kind, Number, verdict

GENERAL = "general"
IMAGENET = "ImageNet-1K"  # of tables 3 and 4, which have no column of data sets
PRINTED = {"figures": "value", "table4": "gflops"}  # table -> column of numbers; else accuracy
CLAIMED = ("batches to target accuracy", "acceleration over full data")  # else a setting
COLUMNS = [
    *("id", "where", "statement", "paper_value", "paper_standard_error", "unit", "kind", "scope"),
    *("our_value", "our_standard_error", "our_low", "our_high", "n", "cells", "runs"),
    *("distance", "verdict", "rule", "link"),
]
SAYS = {  # what a sentence says of two numbers -> the sign that is printed where it is false
    "equal": "≠",
    "less": "≥",
    "more": "≤",
    "at most": ">",
    "at least": "<",
}


@dataclass(frozen=True)
class Claim:
    """A row of the ledger before anything of ours is looked at.

    Attributes:
        ours: id of our cell of a printed number, perhaps with ``*``; empty where there is none.
        test: from claims.yaml: kind of test and its specification, in order.
    """

    id: str
    where: str
    statement: str
    number: Number
    unit: str
    kind: Kind
    scope: str
    ours: str = ""
    test: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True)
class Found:
    """What our tables say to one claim."""

    ours: Number | None = None
    effects: tuple[Effect, ...] = ()
    missing: tuple[str, ...] = ()
    expect: Expect = "higher"
    up_to: bool = False
    cells: tuple[tuple[str, ...], ...] = ()  # ids, of each effect or of the number
    runs: tuple[str, ...] = ()


class Paper:
    """The paper's printed numbers and the claims made of them.

    Args:
        folder: ``data/paper``.

    Raises:
        BadInput: a file is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.tables: dict[str, pd.DataFrame] = {}
        for name in [*(f"table{n}" for n in range(1, 8)), "figures"]:
            path = folder / f"{name}.csv"
            if not path.is_file():
                raise BadInput(f"{path} is missing: it holds the paper's numbers; restore it.")
            texts = {"figure": str, "method": str}
            self.tables[name] = pd.read_csv(path, dtype=texts, keep_default_na=True)
        self.file = folder / "claims.yaml"
        if not self.file.is_file():
            raise BadInput(f"{self.file} is missing: it holds the paper's claims; restore it.")
        self.content = _parsed(self.file.read_text(encoding="utf-8"))

    def rows(self, selector: Mapping[str, Any], where: str) -> pd.DataFrame:
        """The rows of a table that have the selector's values in its columns.

        Raises:
            BadInput: there is no such table or column.
        """
        name = selector.get("table")
        if name not in self.tables:
            raise BadInput(f"{self.file}: {where} names the table {name!r}, which is not there.")
        rows = self.tables[str(name)]
        for column, value in selector.items():
            if column in ("table", "column", "count", "without", "take"):
                continue
            if column not in rows:
                known = ", ".join(map(str, rows.columns))
                raise BadInput(f"{self.file}: {where} asks {name} for {column}; it has {known}.")
            rows = rows[rows[column] == value]
        return rows

    def number(self, term: Any, where: str) -> tuple[float, str]:
        """A term's value and how it came about, e.g. ``58.31 − 55.67 = 2.64``.

        Args:
            term: a number; the columns of one row; ``plus`` and ``minus`` lists of such; ``of`` and
                ``by`` (and ``times``); or ``count``, a column whose values are counted.
            where: what is told if the term is wrong.

        Raises:
            BadInput: it picks no printed number, or more than one.
        """
        if isinstance(term, int | float):
            return float(term), f"{term:g}"
        if "plus" in term or "minus" in term:
            plus = [self.number(t, where)[0] for t in term.get("plus", ())]
            minus = [self.number(t, where)[0] for t in term.get("minus", ())]
            value = round(sum(plus) - sum(minus), 6)
            text = " + ".join(map(_plain, plus)) + "".join(f" − {_plain(m)}" for m in minus)
            return value, f"{text} = {_plain(value)}"
        if "of" in term:
            of, by = self.number(term["of"], where)[0], self.number(term["by"], where)[0]
            times = term.get("times", 1)
            sign = f" × {times:g}" if times != 1 else ""
            return times * of / by, f"{_plain(of)} / {_plain(by)}{sign} = {times * of / by:.3g}"
        rows = self.rows(term, where)
        if "count" in term:
            found = rows[term["count"]].drop_duplicates()
            count = len(found[~found.isin(term.get("without", []))])
            return float(count), f"{count}"
        column = term.get("column") or PRINTED.get(term["table"], "accuracy")
        if len(rows) != 1 or pd.isna(rows[column].iloc[0]):
            raise BadInput(
                f"{self.file}: {where} picks {len(rows)} rows of {term['table']} by {dict(term)}; "
                "it must pick one printed number."
            )
        return float(rows[column].iloc[0]), _plain(float(rows[column].iloc[0]))


def ledger(
    tables: Mapping[str, pd.DataFrame],
    paper_dir: Path,
    *,
    profile: str,
    stands_for: Mapping[str, Any] | None,
    seeds: Sequence[int],
    setting: str,
    runs_dir: Path | None = None,
) -> pd.DataFrame:
    """Every claim of the paper with our number and the verdict on it.

    Args:
        tables: name -> our table, as ``vecaf_lib.report.tables.read_csv`` reads it: those of
            ``table1`` to ``table7`` and ``batches`` that there are.
        paper_dir: the paper's numbers and ``claims.yaml``.
        profile: the active profile.
        stands_for: the paper's data set that the profile is about, and ``full`` if in the paper's
            whole setting; None if about none.
        seeds: of the profile.
        setting: ours in words, e.g. ``digits at 32 px, tf_efficientnet_lite0, 36 steps of 12``.
        runs_dir: run files, for the paired differences that the tables do not hold; without it the
            claims that need one are said to be not run.

    Returns:
        One row a claim, columns ``COLUMNS``: text claims, cells of the tables, contradictions.

    Raises:
        BadInput: claims.yaml is wrong: a row is not there, its arithmetic does not come out, or
            what it calls a contradiction is none.
    """
    paper, ours = Paper(paper_dir), Ours(tables, runs_dir)
    claims = [*text_claims(paper), *table_claims(paper), *contradictions(paper)]
    ids = [claim.id for claim in claims]
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise BadInput(f"{paper.file}: the claim {twice} is there twice; name each once.")
    theirs = {scope: _papers(paper, scope) for scope in {claim.scope for claim in claims}}
    printed = {(c.scope, c.ours): c.number.value for c in claims if c.ours}
    full = bool(stands_for and stands_for.get("full"))
    about = stands_for["dataset"] if stands_for else None
    lines = []
    for claim in claims:
        general = claim.scope == GENERAL
        met = full and (general or claim.scope == about)
        sizes = {cell: v for (scope, cell), v in printed.items() if scope == about} if met else {}
        found = ours.look(claim, paper, sizes, about if met else None)
        told = verdict(
            claim.kind,
            paper_setting=met,
            general=general,
            ours=found.ours,
            theirs=claim.number,
            percent=claim.unit in ("percent", "points"),
            effects=found.effects,
            missing=found.missing,
            expect=found.expect,
            up_to=found.up_to,
        )
        n = f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''}"
        distance = (
            ""
            if claim.kind in ("contradiction", "setting")
            else f"Profile {profile} has the paper's setting as far as it is printed, with {n}."
            if met
            else f"Ours: {setting}, {n}; the paper's: {theirs[claim.scope]}."
        )
        lines.append(_line(claim, found) | {"distance": distance, "verdict": told.text})
        lines[-1]["rule"] = told.rule
    return pd.DataFrame(lines, columns=COLUMNS).astype({"n": "Int64"})


def to_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a ledger: equal ledgers are equal bytes."""
    report_tables.to_csv(table, path)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a ledger as :func:`to_csv` wrote it.

    Raises:
        BadInput: the file is missing.
    """
    if not path.is_file():
        raise BadInput(f"{path} is missing; `dvc repro` makes it.")
    numbers = [c for c in COLUMNS if c.startswith(("paper_", "our_"))] + ["n"]
    texts = [name for name in COLUMNS if name not in numbers]
    table = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    return table.fillna(dict.fromkeys(texts, "")).astype({"n": "Int64"})


def text_claims(paper: Paper) -> Iterator[Claim]:
    """The claims of abstract, text and figures, in the order of claims.yaml.

    Raises:
        BadInput: a ``check`` does not come out at the value that the paper prints.
    """
    for entry in paper.content["claims"]:
        id, unit = entry["id"], entry["unit"]
        value = paper.number(entry["value"], id)[0] if "value" in entry else math.nan
        if "check" in entry:
            found, text = paper.number(entry["check"], id)
            if not _same(found, value):
                raise BadInput(f"{paper.file}: {id} says {value:g}, but {text}; correct one.")
        tests = entry.get("tests", [entry.get("test")])
        test = tuple((*each.items(),)[0] for each in tests if each != "none")
        compares = any(kind in ("difference", "ratio_of_batches") for kind, _ in test)
        yield Claim(
            id,
            entry["where"],
            f"{entry['statement'].format(value=f'{value:.3g}')}.",
            Number(value),
            unit,
            "direction" if compares or math.isnan(value) else "value",
            entry["scope"],
            test=test,
        )


def contradictions(paper: Paper) -> Iterator[Claim]:
    """What excludes itself in the paper, each with the arithmetic that shows it, done here.

    Raises:
        BadInput: an entry's numbers do not contradict what the paper says of them.
    """
    for entry in paper.content["contradictions"]:
        id, says = entry["id"], entry["says"]
        if says not in SAYS:
            raise BadInput(f"{paper.file}: {id}.says is {says!r}, not one of {', '.join(SAYS)}.")
        each = entry.get("each")
        fills: list[dict[str, Any]] = (
            paper.rows(each, id)[each["take"]].to_dict("records") if each else [{}]
        )
        shown, false, right = [], [], math.nan
        for fill in fills:
            left, left_text = paper.number(_filled(entry["left"], fill), id)
            right, right_text = paper.number(_filled(entry["right"], fill), id)
            if not _holds(left, says, right):
                false.append(fill)
                shown.append(f"{left_text} {SAYS[says]} {right_text}")
        if not false or (entry.get("violated") != "some" and len(false) < len(fills)):
            raise BadInput(
                f"{paper.file}: {id} is no contradiction, what the paper says holds for "
                f"{len(fills) - len(false)} of {len(fills)}; correct the entry or drop it."
            )
        printed = Number(
            right if len(shown) == 1 or not isinstance(entry["right"], dict) else math.nan
        )
        statement = f"{entry['statement'].strip()} {'; '.join(shown)}."
        yield Claim(
            id, entry["where"], statement, printed, entry["unit"], "contradiction", "the paper"
        )


def table_claims(paper: Paper) -> Iterator[Claim]:
    """One claim for each number that the paper's tables and figures print."""
    for name, table in paper.tables.items():
        for _, row in table.iterrows():
            value = row[PRINTED.get(name, "accuracy")]
            if pd.isna(value):
                continue  # the paper prints a dash
            id, words, ours, dataset = _printed_cell(name, row, paper.content["names"])
            unit = row.get("unit", "GFLOPs" if name == "table4" else "percent")
            setting = name == "figures" and row["quantity"] not in CLAIMED
            where = f"figure {row['figure']}" if name == "figures" else f"table {name[-1]}"
            text = accuracy_text(value, row.get("standard_error", math.nan))
            text = f"{text} %" if name not in PRINTED else f"{_plain(value)} {unit}"
            yield Claim(
                f"claims/{id}",
                where,
                f"{words}: {text}.",
                Number(float(value), float(row.get("standard_error", math.nan))),
                unit,
                "setting" if setting else "value",
                dataset,
                ours,
            )
    batches = paper.tables["table4"].drop_duplicates("method")
    for _, row in batches.iterrows():
        count = float(row["training_batches"])
        words = f"{row['label']}, training batches: {_plain(count)} batches."
        id = f"claims/table4/{row['method']}/batches"
        yield Claim(id, "table 4", words, Number(count), "batches", "value", IMAGENET)


def _printed_cell(name: str, row: pd.Series, names: Mapping[str, str]) -> tuple[str, str, str, str]:
    """Id without ``claims/``, words, our cell and data set of a printed number."""
    dataset = str(row.get("dataset", IMAGENET))
    data = re.sub("[^a-z0-9]", "", dataset.lower())
    label = str(row.get("label", "")).replace(" (ours)", "")
    if name == "table1":
        share = "all" if row["method"] == FULL else f"r{row['ratio']:g}"
        kind = f"{row['method']}/{row['selection']}"
        at = "all data" if share == "all" else percent(row["ratio"])
        words = f"{label}, {row['selection']}-run, {dataset}, {at}"
        return f"table1/{kind}/{data}/{share}", words, f"table1/{kind}/{share}", dataset
    if name == "table2":
        id = f"table2/{row['method']}/{row['target_class']}"
        return id, f"{label}, {row['target_class']} against all others, {dataset}", id, dataset
    if name == "table3":
        id = f"table3/{row['method']}/{row['corruption']}"
        return id, f"{label}, {row['corruption']} of ImageNet-C", f"{id}/mean", dataset
    if name == "table4":
        id = f"table4/{row['method']}/{slug(row['part'])}"
        return id, f"{label}, {row['part']}", f"{row['method']} {row['part']}", dataset
    if name == "table5":
        pair = (row["vision_model"], row["language_model"])
        ours = "/".join(["table5", *(f"{names[each]}*" for each in pair)])
        return "/".join(["table5", *map(slug, pair)]), f"{' with '.join(pair)}", ours, dataset
    if name == "table6":
        key = ("on" if row["ods"] else "off", "on" if row["cea"] else "off")
        method = next(m for m, switches in report_tables.ABLATION.items() if switches == key)
        words = f"ODS {key[0]}, CEA {key[1]}, {dataset}"
        return f"table6/{method}/{data}", words, f"table6/{method}", dataset
    if name == "table7":
        id = f"table7/l{row['loops']}"
        return id, f"{row['loops']} loops, {dataset}", id, dataset
    who = f"/{row['method']}" if pd.notna(row["method"]) else ""
    id = f"figure{row['figure']}/{data}{who}/{slug(row['quantity'])}"
    if row["quantity"] == "target accuracy":
        id += f"-{row['value']:g}"
    words = f"{dataset}{who.replace('/', ', ')}, {row['quantity']}"
    return id, words, "", dataset


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
                more = self._batches(spec, _targets(paper, dataset))
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
            table = self.tables.get("table4", pd.DataFrame(columns=["variant", "part"]))
            rows = table[
                (table["variant"] == asked["variant"]) & table["part"].isin(asked["parts"])
            ]
            if rows.empty or rows["gflops"].isna().any():
                return Found()
            values.append(math.fsum(rows["gflops"]))
            ids += [str(cell) for cell in rows["cell"]]
        value = values[0] if len(values) == 1 else spec.get("times", 1) * values[0] / values[1]
        return Found(Number(value), cells=(tuple(dict.fromkeys(ids)),))

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
        found = paired_difference(accuracies(one, self.runs_dir), accuracies(other, self.runs_dir))
        return Effect(found.mean, found.low, found.high, found.n)

    def _batches(self, spec: Mapping[str, Any], targets: Sequence[float] | None) -> Found:
        """Quotients of batches to a target accuracy, with an interval on the log scale.

        Runs that never reach the target count with all their batches, a lower bound: good enough
        on top of the quotient; below, the interval is open. A target that neither method reaches
        in any run is missing.
        """
        table = self.tables.get("batches", pd.DataFrame(columns=["method", "target"]))
        table = table.assign(target=pd.to_numeric(table["target"]))
        effects, missing, cells, runs = [], [], [], []
        for target in sorted(table["target"].unique()) if targets is None else targets:
            rows = {line["method"]: line for _, line in table[table["target"] == target].iterrows()}
            for rival in spec["first"]:
                if absent := [name for name in (rival, spec["second"]) if name not in rows]:
                    missing += [f"batches/{name}/{target:g}" for name in absent]
                    continue
                one, other = rows[rival], rows[spec["second"]]
                if not (int(one["reached"]) or int(other["reached"])):
                    missing.append(f"a run that reaches {target:g} %")
                    continue
                effects.append(_quotient(one, other))
                cells.append(tuple(f"batches/{n}/{target:g}" for n in (rival, spec["second"])))
                runs += [run for line in (one, other) for run in str(line["runs"]).split()]
        return Found(
            None,
            tuple(effects),
            tuple(dict.fromkeys(missing)),
            "higher",
            spec.get("up_to", False),
            tuple(cells),
            tuple(dict.fromkeys(runs)),
        )


def accuracies(line: pd.Series, runs_dir: Path) -> dict[int, float]:
    """Seed -> test accuracy in percent of a cell, from its run files.

    Args:
        line: a row of one of our tables.
        runs_dir: the folder of run files.

    Raises:
        BadInput: a file is missing, or their mean is not the cell's.
    """
    found = {}
    for file in str(line["runs"]).split():
        run = read_json(runs_dir / file)
        result = run["result"]
        value = result["test_accuracy"]
        if line.get("domain"):
            value = result["domains"][line["domain"]][str(line["severity"])]
        found[int(run["run"]["seed"])] = float(value)
    if not found or abs(sum(found.values()) / len(found) - float(line["mean"])) > 1e-3:
        raise BadInput(
            f"Cell {line['cell']} says {line['mean']:.4f}, which is not the mean of its run files; "
            "make the tables again with `dvc repro`."
        )
    return found


@functools.lru_cache(maxsize=2)
def _parsed(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(text))


def link(cell: str) -> str:
    """Where the report shows a cell: its evidence, or the file of a table that has no runs."""
    table = cell.partition("/")[0]
    anchored = table.startswith("table") and table != "table4"
    return f"evidence.md#{slug(cell)}" if anchored else f"site:tables/{table}.csv"


def _quotient(one: pd.Series, other: pd.Series) -> Effect:
    """Batches of one method divided by those of another (delta method on the logarithm)."""
    n = int(min(one["n"], other["n"]))
    mean = float(one["mean"]) / float(other["mean"])
    error = math.hypot(*(float(x["standard_error"]) / float(x["mean"]) for x in (one, other)))
    reach = float(stats.t.ppf(0.975, max(n - 1, 1))) * error
    low, high = mean * math.exp(-reach), mean * math.exp(reach)
    if int(one["reached"]) < int(one["n"]):
        high = math.inf
    if int(other["reached"]) < int(other["n"]):
        low = 0.0
    return Effect(mean, low, high, n, neutral=1.0)


def _targets(paper: Paper, dataset: str | None) -> list[float] | None:
    """The paper's target accuracies of a data set, or None for all of ours."""
    if dataset is None:
        return None
    asked = {"table": "figures", "quantity": "target accuracy", "dataset": dataset}
    return [float(value) for value in paper.rows(asked, "the targets")["value"]]


def _line(claim: Claim, found: Found) -> dict[str, Any]:
    """The row of a claim; of several comparisons the weakest is shown."""
    shown = Number(math.nan) if found.ours is None else found.ours
    low = high = math.nan
    n, order = shown.n, list(found.cells)
    if found.effects:
        number = _weakest(found.effects, found.expect)
        weak = found.effects[number]
        shown, low, high, n = Number(weak.mean), weak.low, weak.high, weak.n
        order = [order[number], *order[:number], *order[number + 1 :]]
    cells = list(dict.fromkeys(itertools.chain(*order)))
    return {
        "id": claim.id,
        "where": claim.where,
        "statement": claim.statement,
        "paper_value": claim.number.value,
        "paper_standard_error": claim.number.standard_error,
        "unit": claim.unit,
        "kind": claim.kind,
        "scope": claim.scope,
        "our_value": shown.value,
        "our_standard_error": shown.standard_error,
        "our_low": low,
        "our_high": high,
        "n": n,
        "cells": " ".join(cells),
        "runs": " ".join(found.runs),
        "link": link(cells[0]) if cells else "",
    }


def _papers(paper: Paper, scope: str) -> str:
    """The paper's setting in words."""
    setting, asked = paper.content["setting"], {"table": "figures", "quantity": "total batches"}
    batches = dict(setting["batches"])
    for _, row in paper.rows(asked, "setting").iterrows():
        batches.setdefault(row["dataset"], f"{row['value']:g}")
    counts = list(batches.values()) if scope == GENERAL else [batches.get(scope, "?")]
    data = ", ".join(batches) if scope == GENERAL else scope
    steps = f"{', '.join(map(str, counts))} batches of {setting['batch_size']}"
    return f"{data}, {setting['model']}, {steps}"


def _weakest(effects: Sequence[Effect], expect: Expect) -> int:
    """Which comparison supports the claim least; one without an interval does so."""
    ends = [effect.low if expect == "higher" else -effect.high for effect in effects]
    return min(range(len(ends)), key=lambda i: (not math.isnan(ends[i]), ends[i]))


def _holds(left: float, says: str, right: float) -> bool:
    held = {
        "equal": _same(left, right),
        "less": left < right,
        "more": left > right,
        "at most": left <= right,
        "at least": left >= right,
    }
    return held[says]


def _same(found: float, printed: float) -> bool:
    """Whether a number rounds to the printed one, with the printed one's decimals."""
    decimals = len(_plain(printed).partition(".")[2])
    return abs(found - printed) <= 0.5 * 10**-decimals + 1e-9


def _filled(term: Any, fill: Mapping[str, Any]) -> Any:
    """A term with the columns of ``fill`` put into each of its selectors that lacks them."""
    if isinstance(term, list):
        return [_filled(each, fill) for each in term]
    if not isinstance(term, dict):
        return term
    if "table" in term:
        return {**fill, **term}
    return {key: _filled(value, fill) for key, value in term.items()}


def _plain(value: float) -> str:
    return f"{value:.10g}"

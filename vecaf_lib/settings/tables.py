"""Do the tables and figures ask for runs that are made? Told before any work starts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vecaf_lib.settings.method import Method
    from vecaf_lib.settings.sections import Part, Tables

ABLATION = ("vecaf", "vecaf_no_cea", "vecaf_no_ods", "vecaf_neither")  # the rows of Table 6
FULL = "full"  # full-data finetuning: no selection, so no ratio and no multi-run


def makes(
    method: Method,
    ratio: float,
    loops: int,
    *,
    multi_run: bool = True,
    one_class: bool = False,
    seeds: Collection[int] = (),
) -> bool:
    """Whether the method's grid has this run.

    Args:
        method: its settings.
        ratio: percent.
        loops: of selection.
        multi_run: a fresh selection in each loop.
        one_class: of one class against all (Table 2), not of all classes.
        seeds: of a replication; none are the profile's.
    """
    return any(
        ratio in block.ratios
        and loops in block.loops
        and multi_run in block.multi_run
        and bool(block.targets) == one_class
        and set(seeds) <= set(block.seeds)
        and bool(seeds) == bool(block.seeds)
        for block in method.grid
    )


def _part_problems(
    table: str,
    part: Part | None,
    methods: Mapping[str, Method],
    loops: int,
    optional: Collection[str],
) -> Iterator[str]:
    """What stands in the way of Table 2, 3, 5 or those of decisions and of the variant."""
    for name in part.methods if part else ():
        method, ratio = methods.get(name), part.ratio if part else 0.0
        if method is None and name in optional:
            continue  # shown as not run
        if method is None:
            yield f"{table}.methods has {name!r}, but run_methods has not"
        elif table == "objective" and not any(block.targets for block in method.grid):
            yield f"{table}.methods has {name}, but its grid names no targets"
        elif method.select != FULL and not makes(
            method, ratio, loops, one_class=table == "objective"
        ):
            yield (
                f"{table}.methods has {name}, but its grid has no multi-run {ratio:g} % "
                f"({table}.ratio) with {loops} loops"
            )
        elif table == "domains" and not method.domains:
            yield f"{table}.methods has {name}, but it is tested in no domains"


def table_problems(
    tables: Tables,
    methods: Mapping[str, Method],
    steps: int,
    optional: Collection[str] = (),
) -> Iterator[str]:
    """A sentence without its full stop for each setting that no grid or step budget can serve.

    Args:
        tables: what is to be shown.
        methods: those that are run.
        steps: of a run.
        optional: methods that need weights of their own; a table shows them as not run.
    """
    loops = tables.loops
    if not any(
        all(makes(method, ratio, loops, multi_run=multi) for ratio in tables.ratios)
        for name, method in methods.items()
        for multi in (True, False)
        if name != FULL
    ):
        yield f"ratios is {tables.ratios}, but no method's grid has them all with {loops} loops"

    ratio = tables.ablation_ratio
    absent = [
        name for name in ABLATION if name in methods and not makes(methods[name], ratio, loops)
    ]
    if absent:
        yield (
            f"ablation_ratio is {ratio:g}, but the grid of {' and of '.join(absent)} has no "
            f"multi-run {ratio:g} % with {loops} loops"
        )

    ratio, vecaf = tables.loops_ratio, methods.get("vecaf")
    missing = [n for n in tables.loops_compared if vecaf and not makes(vecaf, ratio, n)]
    if missing:
        yield (
            f"loops_compared has {missing}, but the grid of vecaf has no multi-run {ratio:g} % "
            "(loops_ratio) with as many loops"
        )

    ratio = tables.figure_ratio
    for name in tables.figure_methods:
        if name not in methods:
            yield f"figure_methods has {name!r}, but run_methods has not"
        elif name == FULL and not makes(methods[name], 100.0, loops, multi_run=False):
            yield f"figure_methods has {name}, but it has no single-run 100 % with {loops} loops"
        elif name != FULL and not makes(methods[name], ratio, loops):
            wanted = f"{ratio:g} % (figure_ratio) with {loops} loops"
            yield f"figure_methods has {name}, but its grid has no multi-run {wanted}"

    whole = {*ABLATION, *tables.figure_methods}
    for name in sorted(whole & {name for name, method in methods.items() if method.repetitions}):
        yield (
            f"{name} has repetitions, but Table 6 and the figures show methods with all seeds; "
            "leave repetitions out"
        )

    for table in ("objective", "domains", "encoders", "decisions", "variant"):
        yield from _part_problems(table, getattr(tables, table), methods, loops, optional)

    if again := tables.replication:
        for name in again.methods:
            if name not in methods:
                yield f"replication.methods has {name!r}, but run_methods has not"
            elif not makes(methods[name], again.ratio, loops, seeds=again.seeds):
                wanted = f"{again.ratio:g} % (replication.ratio) with {loops} loops"
                yield (
                    f"replication.methods has {name}, but its grid has no multi-run {wanted} and "
                    "these seeds"
                )

    if tables.loss_window > steps:
        yield f"loss_window is {tables.loss_window}, but training.steps is only {steps}"

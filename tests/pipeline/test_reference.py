"""A profile's results beside its reference: the same, changed, missing, of other settings."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from vecaf_lib.cli import main
from vecaf_lib.pipeline import reference, settings
from vecaf_lib.results.compare import write_table
from vecaf_lib.results.runs import Run, RunStore, runs_of

SMOKE = settings.read_yaml(Path(__file__).parents[2] / "profiles/smoke.yaml")
WRITTEN = Path("profiles/reference/smoke.json")


def store(run: Run, accuracy: float, chosen: str = "a", steps: int = 36, loss: float = 1.0) -> None:
    result = {"loops": [{"chosen": [chosen]}], "train_loss": [loss], "test_accuracy": accuracy}
    provenance = {"settings": {"steps": steps}, "versions": {"torch": "2.13.0"}}
    RunStore(Path("reports/smoke/runs")).save(run, result, provenance)


def table(**means: tuple[float, float | None]) -> None:
    lines = [{"cell": cell, "mean": m, "standard_error": e} for cell, (m, e) in means.items()]
    write_table(pd.DataFrame(lines), Path("reports/smoke/tables/table1.csv"))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    main(["compare", *words])
    return capsys.readouterr().out.splitlines()


def test_what_differs_is_counted_and_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reference, "_processor", lambda: "A")
    both = {"methods": ["activeft", "vecaf"]}
    figures = SMOKE["figures"] | both | {"sets": ["fresh"]}
    tables = {"table1": both | {"ratios": [5]}}
    content = settings.change(SMOKE, {"tables": tables, "figures": figures})
    Path("params.yaml").write_text(yaml.safe_dump(content))
    runs = runs_of(settings.read(Path("params.yaml")))
    for run in runs:
        store(run, 80.0 + run.seed)
    store(Run("digits", "random", True, 5.0, 3, 0), 10.0)  # of no table: left from before
    table(activeft=(80.5, 0.5), vecaf=(80.5, None))
    assert "`vecaf compare smoke --write` makes it of these results" in said(capsys)[0]
    assert said(capsys, "--write") == [f"{WRITTEN} is written: 4 runs and the means of Table 1."]
    (line,) = said(capsys, "--list")
    assert line == "Reproduced: every run, 4 of 4, is the reference's, byte for byte."
    store(runs[0], 81.0, chosen="b")
    store(runs[1], 81.0, loss=1.5)
    store(runs[2], 90.0, chosen="b", steps=72)
    (Path("reports/smoke/runs") / runs[3].file).unlink()
    table(activeft=(81.0, 0.0), vecaf=(80.5, None))
    monkeypatch.setattr(reference, "_processor", lambda: "B")
    line, _, *rows = said(capsys, "--list")
    assert line == (
        "Not all as in the reference: of 4 runs 1 of other settings, 1 with other images, 1 with "
        "other numbers, 1 only in the reference; means differ by 0.50 points at most (activeft, "
        "within its standard error 0.50). Made on A, here B. `make compare` lists them."
    )
    assert [" ".join(row.split()) for row in rows] == [
        f"with other images {runs[0].file} 80.00 81.00",
        f"with other numbers {runs[1].file} 81.00 81.00",
        f"of other settings {runs[2].file} 80.00 90.00",
        f"only in the reference {runs[3].file} 81.00 –",
        "mean activeft 80.50 ± 0.50 81.00 ± 0.00",
    ]
    with pytest.raises(SystemExit, match="1 of 4 runs are missing"):
        said(capsys, "--write")
    store(runs[0], 80.0)
    table(activeft=(81.1, 0.5), vecaf=(80.5, None))
    assert "0.60 points at most (activeft, beyond its standard error 0.50)" in said(capsys)[0]
    table(activeft=(81.1, 0.5), vecaf=(81.5, None))
    WRITTEN.write_text(WRITTEN.read_text().replace("2.13.0", "2.12.0").replace("-s1.", "-s2."))
    (line,) = said(capsys)
    assert "1.00 points at most (vecaf, of one seed)" in line
    assert "2 only in the reference, 1 only here" in line
    assert "here B, other libraries" in line

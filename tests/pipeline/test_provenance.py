"""What a module imports is found without running it; a digest follows what code computes."""

from pathlib import Path

import pytest

from vecaf_lib.pipeline import provenance
from vecaf_lib.pipeline.provenance import code_digests, modules_behind

LIBRARY = Path(provenance.__file__).parents[1]
CODE = """'Of a module.'
x = 1

def f(a, b=(1, 2)):
    'What it does.'
    return a + x
"""


def test_modules_behind_a_module() -> None:
    found = modules_behind(["vecaf_lib.results.runs"])
    assert {"vecaf_lib", "vecaf_lib.results", "vecaf_lib.errors", "vecaf_lib.files"} <= found
    assert not any("selection" in name or "pipeline" in name for name in found)
    # imports inside functions count
    source = (LIBRARY / "pipeline" / "project.py").read_text()
    assert "\n        from vecaf_lib.pipeline import settings" in source
    assert "vecaf_lib.pipeline.settings" in modules_behind(["vecaf_lib.pipeline.project"])


@pytest.mark.parametrize(
    ("new", "same"),
    [
        (CODE, True),
        (CODE.replace("Of a module.", "Said otherwise."), True),
        (CODE.replace("'Of a module.'\n", ""), True),
        (CODE.replace("What it does.", "It adds."), True),
        (CODE.replace("a + x", "(a +  # a comment\n        x)"), True),
        (CODE.replace("x = 1", "x = 2"), False),
        (CODE.replace("x = 1", "x = 1.0"), False),
        (CODE.replace("a + x", "x + a"), False),
        (CODE.replace("b=(1, 2)", "*, b=(1, 2)"), False),
        (CODE.replace("return a + x", "return 'What it does.'"), False),
    ],
    ids=["same", "module", "none", "def", "comment", "value", "type", "order", "keyword", "string"],
)
def test_wording_is_not_in_a_digest(
    new: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "LIBRARY", tmp_path)
    (tmp_path / "module.py").write_text(new)
    digest = code_digests(["vecaf_lib.module"])["vecaf_lib.module"]
    assert digest.startswith("86635646369d") == same  # CODE's, in every Python

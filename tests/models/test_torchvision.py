"""torchvision beside a CPU-only torch: importable after ours, and left alone if it loads alone."""

import subprocess
import sys
from pathlib import Path


def python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)


def test_torchvision_imports_in_a_fresh_process() -> None:
    alone = python("import torchvision")
    cured = python(
        "import vecaf_lib.models, torchvision, timm, open_clip, torch;"
        "print(len(torch._C._dispatch_dump('torchvision::nms')) > 0)"
    )
    assert cured.returncode == 0, cured.stderr
    assert cured.stdout.strip() == "True"
    if alone.returncode:
        assert "torchvision::nms does not exist" in alone.stderr

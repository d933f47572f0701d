"""Two gloo processes, each with a part of the pool, give the answer of one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
import torch
import torch.distributed as dist
from torch.nn.functional import normalize
from vecaf_lib.centroids import select
from vecaf_lib.errors import BadInput

torch.set_num_threads(1)
objective, draws = sys.argv[1], int(sys.argv[2])
g = torch.Generator().manual_seed(0)
e = normalize(torch.randn(10, 24, generator=g)[torch.randint(10, (700,), generator=g)]
              + 0.4 * torch.randn(700, 24, generator=g), dim=1)
losses = torch.rand(700, generator=g)
options = {"objective": objective, "draws": draws, "ensemble": 2, "steps": 30}
rank, size = int(sys.argv[3]), int(sys.argv[4])
part = slice(0, 700)
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[5]}", rank=rank, world_size=size)
    part = slice(0, 260) if rank == 0 else slice(260, 700)
    options |= {"sharded": True, "checkpoint": f"{sys.argv[5]}.checkpoint"}
record = {}
chosen = select(e[part], 25, losses[part], record=record, **options)
print(json.dumps([chosen.tolist(), record["curve"]]))
"""


@pytest.mark.parametrize("objective", ["ods", "activeft"])
@pytest.mark.parametrize("draws", [0, 150])
def test_two_processes_choose_as_one(objective: str, draws: int, tmp_path: Path) -> None:
    def started(rank: int, size: int) -> subprocess.Popen[str]:
        told = [objective, str(draws), str(rank), str(size), str(tmp_path / "meeting")]
        command = [sys.executable, "-c", PROGRAM, *told]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    found = []
    for processes in ([started(0, 1)], [started(0, 2), started(1, 2)]):
        for process in processes:
            out, _ = process.communicate(timeout=120)
            assert process.returncode == 0
            found.append(json.loads(out.splitlines()[-1]))
    alone, first, second = found
    assert first == second
    assert len(set(first[0])) == 25
    assert len(set(alone[0]) & set(first[0])) >= 24  # float32 sums in another order
    assert first[1] == pytest.approx(alone[1], rel=1e-4)

"""Two gloo processes, each with a part of the pool, give the answer of one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, os, sys, time
import torch
import torch.distributed as dist
from torch.nn.functional import normalize
from vecaf_lib.centroids import descent, select
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
    options |= {"sharded": True, "checkpoint": sys.argv[6]}
if sys.argv[7] == "killed":  # at the third renewal, the second process a little later
    renew, calls = descent.renew, []
    def dies(*arguments):
        calls.append(1)
        if len(calls) == 3:
            time.sleep(rank)
            os._exit(9)
        return renew(*arguments)
    descent.renew = dies
record = {}
chosen = select(e[part], 25, losses[part], record=record, **options)
print(json.dumps([chosen.tolist(), record["curve"]]))
"""


@pytest.mark.parametrize("objective", ["ods", "activeft"])
@pytest.mark.parametrize("draws", [0, 150])
def test_two_processes_choose_as_one(objective: str, draws: int, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoint"

    def run(size: int, fate: str) -> list[Any]:
        processes = []
        for rank in range(size):
            told = [objective, str(draws), str(rank), str(size), str(tmp_path / fate), str(kept)]
            command = [sys.executable, "-c", PROGRAM, *told, fate]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        said = [process.communicate(timeout=120)[0] for process in processes]
        assert [p.returncode for p in processes] == [9 if fate == "killed" else 0] * size
        return [json.loads(out.splitlines()[-1]) for out in said if out]

    (alone,) = run(1, "whole")
    first, second = run(2, "unstopped")
    run(2, "killed")
    assert kept.exists()
    assert run(2, "resumed") == [first, first]
    assert not kept.exists()
    assert first == second
    assert len(set(first[0])) == 25
    assert len(set(alone[0]) & set(first[0])) >= 24  # float32 sums in another order
    assert first[1] == pytest.approx(alone[1], rel=1e-4)

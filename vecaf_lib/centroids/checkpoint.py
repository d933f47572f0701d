"""A descent that is stopped goes on from its last renewal, to the same centroids."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vecaf_lib.centroids.member import Member
from vecaf_lib.centroids.plan import Plan
from vecaf_lib.centroids.rows import Rows
from vecaf_lib.errors import BadInput


class Checkpoint:
    """The file, tied to one pool, one p and one plan; all processes share one and its state."""

    def __init__(self, path: Path | None, rows: Rows, p: Float[Tensor, " n"], plan: Plan) -> None:
        self.path, self.key = path, "" if path is None else _key(rows, p, plan)
        self.writes = path is not None and rows.processes.rank == 0

    def save(
        self,
        step: int,
        members: Sequence[Member],
        curves: list[list[float]],
        generator: torch.Generator,
    ) -> None:
        """Write the state before step ``step``, whole or not at all: the first process's does."""
        if self.path is None or not self.writes:
            return
        state = {
            "key": self.key,
            "step": step,
            "curves": curves,
            "generator": generator.get_state(),
            "members": [
                {
                    "theta": m.theta,
                    "pull": m.pull,
                    "mass": m.mass,
                    "adam": m.adam.state_dict(),
                }
                for m in members
            ],
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        torch.save(state, part)
        part.replace(self.path)

    def restore(
        self,
        members: Sequence[Member],
        curves: list[list[float]],
        generator: torch.Generator,
    ) -> int:
        """Take up what the file holds; the step to go on with, 0 without a file.

        Raises:
            BadInput: the file is damaged or of another selection.
        """
        if self.path is None or not self.path.exists():
            return 0
        try:
            state: dict[str, Any] = torch.load(self.path, weights_only=True)
            key = state["key"]
        except Exception as error:
            raise BadInput(
                f"checkpoint: {self.path} is no checkpoint of a selection; delete it."
            ) from error
        if key != self.key or len(state["members"]) != len(members):
            raise BadInput(
                f"checkpoint: {self.path} belongs to another selection (pool, losses or options "
                "differ); name another file or delete it."
            )
        for member, kept in zip(members, state["members"], strict=True):
            member.theta.copy_(kept["theta"])
            member.pull, member.mass = kept["pull"].to(member.theta), kept["mass"].to(member.theta)
            member.adam.load_state_dict(kept["adam"])
        for curve, values in zip(curves, state["curves"], strict=True):
            curve[:] = values
        generator.set_state(state["generator"])
        return int(state["step"])

    def remove(self) -> None:
        """The descent is over."""
        if self.path is not None and self.writes:
            self.path.unlink(missing_ok=True)


def _key(rows: Rows, p: Float[Tensor, " n"], plan: Plan) -> str:
    """Of each process's rows as far as 1,000 of them tell, of all weights, and of the plan."""
    some = torch.linspace(0, rows.own - 1, min(1000, rows.own)).long()
    told = hashlib.sha256(plan.model_dump_json().encode())
    told.update(f"{rows.total} {rows.own} {rows.d}".encode())
    told.update(rows.take(some).cpu().numpy().tobytes())
    told.update(p.cpu().numpy().tobytes())
    own = torch.frombuffer(bytearray(told.digest()), dtype=torch.uint8).to(rows.device)
    return "".join(bytes(part.tolist()).hex() for part in rows.processes.lists(own))

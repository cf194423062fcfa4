"""For torchrun: `grpo_runs.py` on several devices. Where accelerate's variables ask for FSDP2, weights are in parts.

accelerate does that on GPUs alone and passes over it without a word on a CPU: here it is told that the processes have
GPUs, while their device stays the CPU. With DIE_AT=step the first process kills itself once the checkpoint of that step
is whole and before its rows are in the tables.
"""

from __future__ import annotations

import os
import runpy
import signal
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from rrr_cli.training import checkpoints, recorder

start, commit = PartialState.__init__, recorder.Ledger.commit


def as_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
    start(self, *args, **kwargs)
    if self._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def or_die(self: recorder.Ledger, checkpoint: Path) -> None:
    if checkpoints.step_of(checkpoint) == int(os.environ.get("DIE_AT", 0)):
        os.kill(os.getpid(), signal.SIGKILL)
    commit(self, checkpoint)


if __name__ == "__main__":
    recorder.Ledger.commit = or_die  # type: ignore[method-assign]
    if "ACCELERATE_USE_FSDP" in os.environ:
        PartialState.__init__ = as_gpus
    runpy.run_path(str(Path(__file__).parent / "grpo_runs.py"), run_name="__main__")

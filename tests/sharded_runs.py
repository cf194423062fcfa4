"""For torchrun: `grpo_runs.py` with its weights in parts on the processes (FSDP2), which accelerate does on GPUs alone.

accelerate passes over FSDP without a word on a CPU; here it is told that the processes have GPUs, and their device
stays the CPU.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

start = PartialState.__init__


def as_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
    start(self, *args, **kwargs)
    if self._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = as_gpus
    runpy.run_path(str(Path(__file__).parent / "grpo_runs.py"), run_name="__main__")

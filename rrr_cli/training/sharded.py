"""Weights in parts on several devices (FSDP2, by accelerate), as whole as one process has them wherever it matters.

Our decoding reads weights that are gathered for as long as it lasts; a checkpoint has the files of one process, so that
a training goes on in any number of processes, with FSDP2 or without. Reads the environment that `accelerate launch`
sets, and settles in it how accelerate saves and loads. Refuses what splits weights in another way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from rrr_cli.engines.loading import is_memory
from rrr_cli.engines.step import UNRECORDABLE
from rrr_cli.errors import USAGE, RrrError

FSDP, DEEPSPEED, MEGATRON = SPLITS = (
    "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")
CURE = "split the weights by FSDP2 (examples/accelerate_fsdp2.yaml), or start it with torchrun alone"
#: Whatever accelerate's configuration says: a checkpoint holds the model, and each process reads all weights.
SETTLED = {"FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}


def check_launch() -> None:
    """Settle what accelerate is to do, before the processes meet. Raises RrrError (exit 2): a launch whose training
    would go wrong, or end without a model: DeepSpeed's engine takes a step after each micro-batch, for one."""
    for variable in (DEEPSPEED, MEGATRON):
        if asked(variable):
            name = "DeepSpeed" if variable == DEEPSPEED else "Megatron-LM"
            raise RrrError(f"rrr grpo doesn't train with {name}: {CURE}", USAGE)
    os.environ.pop("ACCELERATE_MIXED_PRECISION", None)  # --dtype says it
    if not asked(FSDP):
        return
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise RrrError(f"rrr grpo trains with FSDP2 alone, and this is FSDP {os.environ.get('FSDP_VERSION', '1')}: set "
                       "fsdp_version: 2 in accelerate's configuration, as examples/accelerate_fsdp2.yaml does", USAGE)
    if asked("FSDP_ACTIVATION_CHECKPOINTING"):
        raise RrrError("accelerate's fsdp_activation_checkpointing: leave it out, and type --gradient-checkpointing",
                       USAGE)
    os.environ.update(SETTLED)


def check_devices() -> None:
    """Raise RrrError (exit 2) where accelerate would pass over FSDP without a word."""
    if asked(FSDP):
        state = PartialState()
        if state.distributed_type in (DistributedType.NO, DistributedType.MULTI_CPU):
            where = "on a CPU" if state.device.type == "cpu" else "in a process that no launcher started"
            raise RrrError(f"FSDP2 splits nothing {where}: start it on GPUs with accelerate launch and "
                           "--num_processes of 2 or more, or without FSDP", USAGE)


def asked(variable: str) -> bool:
    """Whether a variable of accelerate's says yes."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes")


def settle(accelerator: Any) -> bool:
    """Whether weights are in parts. Before any are: products are bfloat16 where training's are, and sums over devices,
    the log-probabilities and the KL float32, which accelerate's own policy would make bfloat16 as well."""
    if not accelerator.is_fsdp2:
        return False
    half = accelerator.mixed_precision == "bf16"
    accelerator.state.fsdp_plugin.mixed_precision_policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if half else None)
    return True


@contextmanager
def gathered(*models: Any) -> Iterator[None]:
    """While this lasts, the weights of models that are in parts are whole on each device, and a forward waits for no
    other process, so that texts may differ in length. To be opened equally often in all processes.

    Raises RrrError (exit 3): the weights don't fit.
    """
    modules = [part for model in models for part in model.modules() if isinstance(part, FSDPModule)]
    groups = [group for part in modules for group in part._get_fsdp_state()._fsdp_param_groups]
    before = [group.post_forward_mesh_info for group in groups]
    UNRECORDABLE.update(model for model in models if isinstance(model, FSDPModule))  # it waits for other streams
    try:
        _unshard(modules)
        yield
    finally:
        for part in modules:
            part.reshard()
        for group, info in zip(groups, before, strict=True):
            group.post_forward_mesh_info = info  # whether its weights stay whole between forward and backward


def _unshard(modules: list[Any]) -> None:
    try:
        for part in modules:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
    except Exception as error:
        if not is_memory(error):
            raise
        raise RrrError("the weights in parts don't fit whole on one device, where rrr writes texts with them: generate "
                       "with --vllm server, which has devices of its own, or train a smaller --model") from error


def whole(optimizer: Any) -> dict[str, Any]:
    """What an optimiser remembers, as one process without parts has it; all processes have to ask."""
    return _each(optimizer.state_dict(), lambda _, value: (
        value.full_tensor().cpu() if isinstance(value, DTensor) else value))


def restore(optimizer: Any, state: dict[str, Any]) -> None:
    """Give an optimiser of weights in parts its own parts of what `whole` gave."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]

    def part(index: int, value: Any) -> Any:
        weight = weights[index]
        if not isinstance(weight, DTensor) or not isinstance(value, torch.Tensor) or value.shape != weight.shape:
            return value  # how many steps it took
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)

    optimizer.load_state_dict(_each(state, part))


def _each(state: dict[str, Any], change: Callable[[int, Any], Any]) -> dict[str, Any]:
    """An optimiser's state with each value of each weight changed."""
    values = {index: {name: change(index, value) for name, value in kept.items()}
              for index, kept in state["state"].items()}
    return state | {"state": values}


def untied(state: dict[str, Any], model: Any) -> dict[str, Any]:
    """A state dict without the second name of a weight that two layers share, which one process doesn't save."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {name: weight for name, weight in state.items() if name not in tied or tied[name] not in state}

"""What `--device` means: auto, or a device that is here; and how much of its memory is free. Writes nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rrr_cli.errors import USAGE, RrrError

#: Devices of CUDA's and ROCm's drivers, on Jetson and in WSL as well.
DRIVERS = ("nvidia*", "kfd", "dxg", "nvhost*", "nvgpu*", "nvmap")


def chosen_device(device: str) -> str:
    """The name of a device that is here; auto is the GPU if there is one. Raises RrrError (exit 2) for any other."""
    import torch

    gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if gpu else "cpu"
    here = ["cpu", *devices()]
    if device not in here and device != "cpu:0":
        raise RrrError(f"--device {device}: torch has no such device here; use --device auto, or one of "
                       f"{', '.join(here)}", USAGE)
    return device


def devices() -> list[str]:
    """The names of this machine's accelerator and of each device of it: cuda, cuda:0, …"""
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return []
    kind = accelerator.type
    return [kind, *(f"{kind}:{i}" for i in range(torch.accelerator.device_count()))]


def has_gpu() -> bool:
    """Whether torch, if it is here, has a GPU. It isn't asked, which takes seconds, where no driver has a device."""
    if "torch" not in sys.modules and not any(any(Path("/dev").glob(name)) for name in DRIVERS):
        return False
    try:
        import torch
    except ImportError:
        return False
    return bool(torch.cuda.is_available())


def has_flash(device: Any) -> bool:
    """Whether PyTorch has flash attention for GPUs on this torch.device; None is a CPU."""
    if device is None or device.type != "cuda":
        return False
    import torch

    available = torch.version.hip is None and torch.backends.cuda.is_flash_attention_available()
    return bool(available and torch.cuda.get_device_capability(device) >= (8, 0))


def arithmetic(of: Any) -> Any:
    """The dtype that products with a tensor, or in a model, are computed in: autocast's where that is on."""
    import torch

    device = of.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else of.dtype


def free_memory(device: Any = None) -> int:
    """Bytes that are free on a torch.device: of a GPU with what torch keeps in reserve; without one, or of a CPU, those
    of the machine within the limit of the container."""
    if device is not None and device.type == "cuda":
        import torch

        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + int(reserve)
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        free = next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    except (OSError, StopIteration):  # another system: half of the memory
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else max(0, min(free, int(limit) - int(used)))
    except (OSError, ValueError):  # another system, or an older kind of container
        return free

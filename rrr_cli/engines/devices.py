"""What `--device` means: auto, or a device that is here. Reads and writes nothing."""

from __future__ import annotations

from rrr_cli.errors import USAGE, RrrError


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

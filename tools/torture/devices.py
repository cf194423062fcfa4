"""Kill a training on several devices at random moments, going on each time in another number of processes.

    python tools/torture/devices.py --times 20

A random model is trained in one process (the reference). Then a second training of it is started in one process, in two
(torchrun), or in two with its weights in parts (FSDP2), drawn anew for each start, and one of its processes is killed
with SIGKILL at a random moment, until `--times` were. At the end: the rollouts of the reference, and its weights to
rounding, with all weights trained and with LoRA.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "training")]

from conftest import make_random_model  # noqa: E402
from grpo_runs import mine  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from test_grpo_in_parts import fsdp2  # noqa: E402

from rrr_cli.store import artifacts  # noqa: E402

LAUNCHES = {"one": (1, {}), "two": (2, {}), "two, FSDP2": (2, fsdp2())}
STEPS = {"steps": 24, "batch": 4, "group": 4, "save_every": 1, "device": "cpu", "lr": 1e-3}
WITHIN = 1e-3  # of each other's weights; Adam turns the rounding of a gradient near 0 into a step of the rate


def start(launch: str, run: Path, model: Path, special: dict[str, object]) -> subprocess.Popen[bytes]:
    """A training, or what is left of one."""
    processes, variables = LAUNCHES[launch]
    script = [str(ROOT / "tests" / "several_devices.py"), str(run), str(model)]
    words = [f"{key}={json.dumps(value)}" for key, value in (STEPS | special).items()]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
                "--shutdown-timeout", "5"] if processes > 1 else []
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"} | variables
    log = open(f"{run}.log", "wb")  # noqa: SIM115
    return subprocess.Popen([sys.executable, *launcher, *script, *words], env=environment, stdout=log, stderr=log)


def workers(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that train: those of a launcher, or the one."""
    below = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in below] or [process.pid]


def ended(process: subprocess.Popen[bytes], run: Path, after: float, chance: random.Random) -> bool:
    """Kill one of its processes once it has trained for `after` seconds; whether it came to its end before."""
    begun, deadline = checkpoint(run), time.monotonic() + 300
    while process.poll() is None and checkpoint(run) == begun and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(chance.choice(workers(process)), signal.SIGKILL)
        process.wait()
        return False
    assert process.returncode == 0, Path(f"{run}.log").read_text()
    return True


def checkpoint(run: Path) -> str:
    """The newest; empty where there is none."""
    return max((path.name for path in (run / "models" / "policy-checkpoints").glob("step-*")), default="")


def check(special: dict[str, object], model: Path, work: Path, times: int, chance: random.Random) -> None:
    """Kill trainings `times` times, and compare each that came to its end with one that was left alone."""
    name, kills, ends = "-".join(special) or "all", 0, 0
    reference = work / name
    mine(reference)
    assert start("one", reference, model, special).wait() == 0
    while kills < times or ends == 0:
        run = work / f"{name}-{ends}"
        mine(run)
        used = []
        while True:
            used.append(chance.choice(list(LAUNCHES)))
            process = start(used[-1], run, model, special)
            if ended(process, run, chance.uniform(0, 2) if kills < times else 600, chance):
                break
            kills += 1
        compare(reference, run)
        ends += 1
        print(f"{name}: {' | '.join(used)}: as in one process", flush=True)
    print(f"{name}: killed {kills} times over {ends} trainings; 0 rollouts lost, doubled or different", flush=True)


def compare(reference: Path, run: Path) -> None:
    """Raises AssertionError where they differ by more than rounding."""
    rows = [[replace(row, advantage=round(row.advantage, 3)) for row in artifacts.read(folder, "rollouts")]
            for folder in (reference, run)]
    assert rows[0] == rows[1], run
    (before,), (after,) = ((folder / "models" / "policy").glob("*.safetensors") for folder in (reference, run))
    weights, others = load_file(before), load_file(after)
    assert weights.keys() == others.keys()
    worst = max(float((weights[key] - others[key]).abs().max()) for key in weights)
    assert worst <= WITHIN, f"{run}: weights differ by {worst}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance, work = random.Random(arguments.seed), Path(tempfile.mkdtemp())
    make_random_model(work / "model")
    for special in ({}, {"lora": 4}):
        check(special, work / "model", work, arguments.times, chance)


if __name__ == "__main__":
    main()

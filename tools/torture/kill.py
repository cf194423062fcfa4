"""Kill each stage with SIGKILL at random moments and prove that nothing is lost, doubled or unreadable.

    python tools/torture/kill.py --times 50 --stages mine-failures,reflect,repair,self-train,eval,grpo

A stage runs once undisturbed (the reference), then again and again on a second folder, killed at a random moment of
the shortest whole run and started anew, until it was killed `--times` times; a folder that got finished is compared
with the reference and a new one begun. After every kill: each table reads back, no key stands twice, and every part
that was there before is there still, byte for byte. After every finish: the same rows as the reference, and where the
stage trains the same weights, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rrr_cli.store.artifacts import exists, read

KEYS = {
    "problems": ("problem_id",), "attempts": ("attempt_id",), "reflections": ("reflection_id",),
    "evaluations": ("evaluation_id",), "rollouts": ("step", "group", "sample_index"), "steps": ("step",),
    "losses": ("model", "step"), "later_tries": ("try_id",),
}
# Measured times differ from run to run; everything else is compared.
UNCOMPARED = {
    "steps": {"seconds", "seconds_reflect", "seconds_retry", "seconds_update"}, "losses": {"seconds"},
}

SHORT = ["--max-tokens", "48"]
COMMANDS = {
    "mine-failures": ["mine-failures", "--limit", "160", "--part", "16", *SHORT],
    "reflect": ["reflect", "--part", "8", "--reflection-tokens", "48", *SHORT],
    "repair": ["repair", "--part", "8", *SHORT],
    "self-train": ["self-train", "--texts", "own", "--epochs", "4", "--batch", "16", "--held-out", "0.2",
                   "--patience", "4"],
    "eval": ["eval", "--limit", "48", "--part", "8", "--reflection-tokens", "48", *SHORT],
    "grpo": ["grpo", "--steps", "6", "--save-every", "1", "--batch", "32", "--group", "8",
             "--reflection-tokens", "48", "--max-tokens", "48"],
}


def rows(run: Path) -> dict[str, dict[tuple[object, ...], str]]:
    """table -> key -> row; raises on an unreadable part or a key that stands twice."""
    tables: dict[str, dict[tuple[object, ...], str]] = {}
    for table, key in KEYS.items():
        if not exists(run, table):
            continue
        found: dict[tuple[object, ...], str] = {}
        for row in read(run, table):
            name = tuple(getattr(row, column) for column in key)
            assert name not in found, f"{table}: {name} stands twice"
            kept = {k: v for k, v in vars(row).items() if k not in UNCOMPARED.get(table, set())}
            found[name] = repr(kept)
        tables[table] = found
    return tables


def parts(run: Path) -> dict[str, str]:
    """Each Parquet file's path in the run -> SHA-256."""
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in run.rglob("*.parquet")}


def weights(run: Path) -> str:
    """A hash of the trained model's weights; empty before there is one."""
    found = sorted(p for name in ("policy", "agent") for p in (run / "models" / name).glob("*.safetensors"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in found)).hexdigest() if found else ""


def start(command: list[str], run: Path) -> subprocess.Popen[bytes]:
    """The stage in a process group of its own, its output in a log beside the run."""
    log = open(f"{run}.log", "wb")  # noqa: SIM115
    return subprocess.Popen([sys.executable, "-m", "rrr_cli", *command, "--run", str(run)], stdout=log, stderr=log,
                            start_new_session=True)


def check_stage(stage: str, prepared: Path, work: Path, times: int, chance: random.Random) -> None:
    """Kill `stage` `times` times, starting from a copy of the run `prepared`."""
    command, reference = COMMANDS[stage], work / f"{stage}-reference"
    shutil.copytree(prepared, reference)
    began = time.monotonic()
    if start(command, reference).wait() != 0:
        raise SystemExit(f"{stage} fails undisturbed:\n{Path(f'{reference}.log').read_text()}")
    duration = time.monotonic() - began
    wanted, wanted_weights = rows(reference), weights(reference)
    kills = finishes = 0
    run = work / f"{stage}-killed"
    while kills < times:
        anew = not run.exists()
        if anew:
            shutil.copytree(prepared, run)
        before, began = parts(run), time.monotonic()
        process = start(command, run)
        try:
            process.wait(chance.uniform(0.05, 1.05) * duration)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            if process.returncode != 0:
                raise SystemExit(f"{stage} did not resume:\n{Path(f'{run}.log').read_text()}")
            assert rows(run) == wanted, f"{stage}: other rows than undisturbed"
            assert weights(run) == wanted_weights, f"{stage}: other weights than undisturbed"
            finishes += 1
            if anew:  # the machine has become faster since: the reference's duration would hardly ever be a kill's
                duration = min(duration, time.monotonic() - began)
            shutil.rmtree(run)
            continue
        rows(run)
        after = parts(run)
        assert all(after.get(name) == digest for name, digest in before.items()), f"{stage}: a whole part was changed"
    if run.exists():
        if start(command, run).wait() != 0:
            raise SystemExit(f"{stage} did not resume:\n{Path(f'{run}.log').read_text()}")
        assert rows(run) == wanted, f"{stage}: other rows than undisturbed"
        assert weights(run) == wanted_weights, f"{stage}: other weights than undisturbed"
        finishes += 1
    print(f"{stage}: killed {kills} times over {finishes} runs to the end, {duration:.1f} s undisturbed; "
          "0 rows lost, doubled or unreadable", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--stages", default=",".join(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a folder to make and work in  [default: a temporary one]")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    work = arguments.work or Path(tempfile.mkdtemp())
    empty, mined = work / "empty", work / "mined"
    empty.mkdir(parents=True)
    if start(COMMANDS["mine-failures"], mined).wait() != 0:
        raise SystemExit(Path(f"{mined}.log").read_text())
    for stage in arguments.stages.split(","):
        check_stage(stage, empty if stage in ("mine-failures", "eval") else mined, work, arguments.times, chance)


if __name__ == "__main__":
    main()

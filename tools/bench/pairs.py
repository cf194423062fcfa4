"""Two arms, each a process of its own, that take turns: A B A B …; and the rows that come of it.

The first turn of each warms it up and isn't counted. Starts children (`child.py`); writes nothing itself. Refuses arms
that did another amount of work.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

CHILD = Path(__file__).with_name("child.py")
Answer = dict[str, Any]


class Arm:
    """A child that is asked. `with` ends it."""

    def __init__(self, name: str, folder: Path, module: str, function: str, given: dict[str, Any],
                 python: str = sys.executable) -> None:
        own = folder / name
        own.mkdir()
        given = {key: asdict(value) if is_dataclass(value) else value for key, value in given.items()}
        if "shape" in given:
            given["folder"] = str(own)
        self.log = own / "log"
        path = os.pathsep.join([str(CHILD.parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        with self.log.open("w") as errors:
            self.process = subprocess.Popen(
                [python, str(CHILD), module, function, json.dumps(given)], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | {"PYTHONPATH": path, "BENCH_FOLDER": str(own)})

    def once(self) -> Answer:
        """What one piece of its work took. Raises RuntimeError with the end of its log where it died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("an arm of the benchmark died:\n" + self.log.read_text()[-2000:])
        answer: Answer = json.loads(line)
        return answer

    def __enter__(self) -> Arm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.process.kill()
        self.process.communicate()


def take_turns(arms: Sequence[Arm], repetitions: int) -> list[list[Answer]]:
    """The answers of each arm, without the first."""
    with ExitStack() as stack:
        for arm in arms:
            stack.enter_context(arm)
        rounds = [[arm.once() for arm in arms] for _ in range(1 + repetitions)]
    for answers in rounds:
        lengths = [answer.get("lengths") for answer in answers]
        if any(other != lengths[0] for other in lengths):
            raise RuntimeError(f"the arms did not do the same work: {lengths}")
    return [list(answers) for answers in zip(*rounds[1:], strict=True)]


def compared(ours: Sequence[float], peer: Sequence[float]) -> dict[str, Any]:
    """The ratio of medians peer / ours, and the lowest and highest of the paired ratios."""
    pairs = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
    return {"ratio": round(statistics.median(peer) / statistics.median(ours), 3), "low": round(min(pairs), 3),
            "high": round(max(pairs), 3), "repetitions": len(pairs)}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """A number that is compared with nothing, such as a share: its median, lowest and highest value."""
    return {"ratio": round(statistics.median(values), 4), "low": round(min(values), 4), "high": round(max(values), 4),
            "repetitions": len(values)}


def medians(answers: Sequence[Answer], who: str, measure: str) -> dict[str, float]:
    """What an arm took: the measure that is compared, and wall time."""
    keys = {measure, "wall_s"} if measure == "cpu_s" else {measure}
    return {f"{who}_{key}": round(statistics.median(a[key] for a in answers), 3) for key in sorted(keys)}

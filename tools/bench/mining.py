"""A mining run of the embedded model on Countdown's problems, where a try passes by chance: which share of the
decoder's slots was in use, and of the CPU time was spent on the tables."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from meter import Meter, cpu_seconds

CHANCE = Path(__file__).with_name("chance.py")
SLOTS = 256  # `--batch-size`, at its default


def ours(problems: int, success: str, meter: Meter) -> None:
    """Mine `problems`, in a new run each time; `success`: a class of chance.py."""
    from rrr_cli.engines import decoder
    from rrr_cli.stages import mine_failures
    from rrr_cli.store.artifacts import Writer

    used = {"rows": 0, "steps": 0}
    tables = {"cpu_s": 0.0}
    run, append = decoder.Decoder.run, Writer.append

    def counted_run(self: Any, *given: Any) -> None:
        before = written(self)
        run(self, *given)
        used["rows"] += written(self) - before

    def timed_append(self: Any, rows: Any) -> Any:
        start = cpu_seconds()
        try:
            return append(self, rows)
        finally:
            tables["cpu_s"] += cpu_seconds() - start

    decoder.Decoder.run = counted_run  # type: ignore[method-assign]
    decoder.pick = counted(decoder.pick, used)
    Writer.append = timed_append  # type: ignore[method-assign]

    def work() -> dict[str, Any]:
        used.update(rows=0, steps=0)
        tables["cpu_s"] = 0.0
        start = cpu_seconds()
        with tempfile.TemporaryDirectory() as folder:
            mine_failures.run(mine_failures.Options(
                run=Path(folder) / "run", task=f"{CHANCE}:{success}", limit=problems, max_tokens=96))
        return {"slots": used["rows"] / (used["steps"] * SLOTS), "tables": tables["cpu_s"] / (cpu_seconds() - start)}

    meter.repeat(work)


def written(decoder: Any) -> int:
    """Tokens of the rows being decoded, so far."""
    return sum(len(row.ids) for row in decoder.rows)


def counted(pick: Callable[..., Any], used: dict[str, int]) -> Callable[..., Any]:
    """`pick`, which is called once a step."""
    def counting(*arguments: Any) -> Any:
        used["steps"] += 1
        return pick(*arguments)

    return counting

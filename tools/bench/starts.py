"""What a command costs that hardly does anything: most of it is Python's start and imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from meter import Meter


def command(words: list[str], meter: Meter) -> None:
    """Run Python with these arguments each time; {run} among them is the folder of a small mined run, {attempt} an id
    in it."""
    places = {"{run}": str(Path(os.environ["BENCH_FOLDER"]) / "run")}
    if not places.keys().isdisjoint(words):
        places["{attempt}"] = small_run(Path(places["{run}"]))
    given = [places.get(word, word) for word in words]

    def work() -> dict[str, Any]:
        subprocess.run([sys.executable, *given], check=True, stdin=subprocess.DEVNULL)
        return {}

    meter.repeat(work)


def small_run(run: Path) -> str:
    """Mine 128 problems of Countdown, with a failed attempt each; the id of one of these."""
    from rrr_cli.store.artifacts import read

    script = run.with_name("script.json")
    script.write_text(json.dumps({"default": "<answer> 1 </answer>"}))
    mining = ["-m", "rrr_cli", "mine-failures", "--run", str(run), "--limit", "128", "--samples", "1", "--engine",
              "scripted", "--model", str(script), "--max-tokens", "96"]
    subprocess.run([sys.executable, *mining], check=True, stdin=subprocess.DEVNULL)
    attempt: str = next(read(run, "attempts")).attempt_id
    return attempt


def quickstart(meter: Meter) -> None:
    """The whole of examples/quickstart.sh; minutes."""
    root = Path(__file__).resolve().parents[2]

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["bash", "examples/quickstart.sh"], cwd=root, check=True, stdin=subprocess.DEVNULL,
                           env=os.environ | {"RUN": f"{folder}/run"})
        return {}

    meter.repeat(work)

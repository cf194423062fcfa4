"""What is measured: each figure has a name to type, and makes rows of benchmarks/results.json.

A row has `kind`, which says what its ratio is: "times" (what the peer takes, over what we take), "start" (a command's
CPU time, over that of `python -c pass`), "share" (of a whole), "minutes" (of CPU time, over one minute).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs import Answer, Arm, compared, medians, spread, take_turns
from shapes import Shape

Row = dict[str, Any]
CHECK_MEMORY = "peak_mib"


@dataclass(frozen=True)
class Figure:
    """A figure; `measure(folder, repetitions, quick)` makes its rows."""

    name: str
    measure: Callable[[Path, int, bool], list[Row]]
    always: bool = True  # else it is measured where it is named


def step(shape: Shape, note: str = "") -> Figure:
    """A whole GRPO step against stock TRL."""
    name = f"step, {shape}{note}"

    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        used = shape.quick() if quick else shape
        ours, stock = take_turns([Arm(who, folder, "steps", who, {"shape": used}) for who in OURS_STOCK], repetitions)
        return [times(name, "TRL's GRPOTrainer", ours, stock, shape=used)]

    return Figure(name, measure)


def gpu_step(shape: Shape) -> Figure:
    """The same on a GPU, by wall time; one arm after the other, as both don't fit into its memory."""
    name = f"step on a GPU, {shape}"

    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        used = shape.quick() if quick else shape
        ours, stock = (
            take_turns([Arm(who, folder, "steps", who, {"shape": used})], repetitions)[0] for who in OURS_STOCK)
        if ours[0]["lengths"] != stock[0]["lengths"]:
            raise RuntimeError(f"the arms did not do the same work: {ours[0]} {stock[0]}")
        parts = {
            f"{who}_{key}": value for who, answers in (("ours", ours), ("peer", stock))
            for key in ("reflections_s", "retries_s", "gpu_peak_mib") for value in medians(answers, "", key).values()}
        return [times(name, "TRL's GRPOTrainer", ours, stock, "wall_s", shape=used, **parts,
                      micro_batch=stock[0]["micro_batch"])]

    return Figure(name, measure, always=False)


def training_pass(shape: Shape) -> Figure:
    """The training pass against logits_to_keep, and its memory."""
    name = f"training pass, {shape.model} {shape.prompt}/{shape.reflection}"

    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        used = shape.quick() if quick else shape
        arms = [Arm(who, folder, "training_pass", who, {"shape": used}) for who in OURS_STOCK]
        ours, stock = take_turns(arms, repetitions)
        from training_pass import same_gradient

        same = same_gradient(folder)
        peer = "a forward with logits_to_keep"
        return [times(name, peer, ours, stock, shape=used, checked=same),
                times(f"{name}, peak memory", peer, ours, stock, CHECK_MEMORY, shape=used)]

    return Figure(name, measure)


def generation(shape: Shape, peer: str, python: str | None = None, always: bool = True) -> Figure:
    """64 samples of one prompt. `python`: an interpreter that has vLLM."""
    name = f"generation, {shape.model} {shape.rows} x {shape.reflection} tokens, against {peer}"
    function = "vllm" if peer == "vLLM" else "stock"

    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        used = shape.quick() if quick else shape
        arms = [Arm("ours", folder, "generation", "ours", {"shape": used}),
                Arm(function, folder, "generation", function, {"shape": used}, *filter(None, [python]))]
        return [times(name, peer, *take_turns(arms, repetitions), shape=used)]

    return Figure(name, measure, always)


def mining(problems: int, success: str, share: float) -> Figure:
    """Slots in use, and the share of the tables, where this share of tries passes."""
    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        arm = Arm("ours", folder, "mining", "ours", {"problems": 8 if quick else problems, "success": success})
        (answers,) = take_turns([arm], repetitions)
        named = {"slots": "decode slots in use", "tables": "CPU time of its tables"}
        taken = medians(answers, "ours", "cpu_s")
        return [{"name": f"mining, success {share}, {name}", "kind": "share", **spread([a[key] for a in answers]),
                 **taken} for key, name in named.items()]

    return Figure(f"mining, success {share}", measure)


def start(name: str, *words: str) -> Figure:
    """A command against Python alone; `words` come after what its name says."""

    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        given = ["-m", "rrr_cli", *shlex.split(name)[1:], *words]
        arms = [Arm("python", folder, "starts", "command", {"words": ["-c", "pass"]}),
                Arm("ours", folder, "starts", "command", {"words": given})]
        python, ours = take_turns(arms, repetitions)
        return [{"name": name, "kind": "start", **compared(*([a["cpu_s"] for a in who] for who in (python, ours))),
                 "peer": "python -c pass", **medians(ours, "ours", "cpu_s"), **medians(python, "peer", "cpu_s")}]

    return Figure(name, measure)


def quickstart() -> Figure:
    """CPU and wall time of the quickstart."""
    def measure(folder: Path, repetitions: int, quick: bool) -> list[Row]:
        (answers,) = take_turns([Arm("ours", folder, "starts", "quickstart", {})], repetitions)
        return [{"name": "quickstart", "kind": "minutes", **spread([a["cpu_s"] / 60 for a in answers]),
                 **medians(answers, "ours", "cpu_s")}]

    return Figure("quickstart", measure, always=False)


def times(
    name: str, peer: str, ours: Sequence[Answer], theirs: Sequence[Answer], measure: str = "cpu_s", *, shape: Shape,
    **more: Any,
) -> Row:
    """How many times more the peer takes."""
    return {
        "name": name, "kind": "times", **compared(*([a[measure] for a in who] for who in (ours, theirs))), "peer": peer,
        **medians(ours, "ours", measure), **medians(theirs, "peer", measure), "rows": shape.rows, **more}


VLLM = os.environ.get("VLLM_PYTHON")
OURS_STOCK = ("ours", "stock")
FIGURES = [
    step(Shape("tiny", 512, 64, 32, 64)),
    step(Shape("tiny", 256, 128, 64, 64)),
    step(Shape("tiny", 1000, 64, 32, 64)),
    step(Shape("smol3", 512, 64, 32, 16)),
    step(Shape("smol3", 512, 64, 32, 16, micro=8), ", micro-batches of 8"),
    training_pass(Shape("smol3", 512, 64, 0, 16)),
    training_pass(Shape("tiny", 512, 64, 0, 64)),
    training_pass(Shape("tiny", 256, 128, 0, 64)),
    generation(Shape("tiny", 256, 64, 0, 64), "transformers"),
    generation(Shape("smol3", 256, 64, 0, 64), "transformers"),
    generation(Shape("smollm2", 256, 64, 0, 64), "transformers", always=False),
    *([generation(Shape("smol3", 256, 64, 0, 64), "vLLM", VLLM),
       generation(Shape("smollm2", 256, 64, 0, 64), "vLLM", VLLM, always=False)] if VLLM else []),
    gpu_step(Shape("qwen", 512, 512, 1024, 256, gpu=True)),
    mining(2000, "Third", 0.3),
    mining(2000, "Half", 0.5),
    mining(2000, "Most", 0.8),
    start("rrr --help"),
    start('rrr sql "select 1"', "--run", "{run}"),
    start("rrr show", "{attempt}", "--run", "{run}"),
    start("rrr grpo --dry-run", "--run", "{run}", "--model", "tiny", "--batch", "32", "--group", "8"),
    quickstart(),
]

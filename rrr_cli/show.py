"""`rrr show ID`: one story from a run, problem to verdict. Reads a run's tables; writes nothing.

ID is a problem, an attempt (a first try or a retry) or a reflection, or the first 4 or more characters of one. Where
`rrr grpo` trained on the problem or first try, the story ends with samples of its last step on it. Refuses an id that
isn't there, and a beginning that several ids share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from rrr_cli.errors import RrrError
from rrr_cli.records import Attempt, Message, Problem, Reflection, Rollout
from rrr_cli.store.artifacts import read
from rrr_cli.store.sql import require_run
from rrr_cli.text import safe_text

LEAST = 4  # characters of an id
ID_COLUMNS = {"problems": "problem_id", "attempts": "attempt_id", "reflections": "reflection_id"}  # table: its ids


def story(run: Path, id: str) -> dict[str, Any]:
    """The story around `id`, as plain data: `rrr show --json`.

    {"problem", "attempt", "tries": [{"reflection", "retry"}], "other_attempts": [ids], "samples": [rollouts],
    "other_samples": number}, each a record as a dict or null. For a problem, the attempt is a failed one that a retry
    solved, else a failed one, else any. Raises RrrError (exit 3): no such run or id, or a beginning that isn't unique.
    """
    require_run(run)
    table, whole = _find(run, id)
    if table == "problems":
        first = list(read(run, "attempts", {"problem_id": whole, "phase": "first"}))
        retries = _retries(run, [a.attempt_id for a in first])
        solved = {r.parent_id for r in retries if r.success}
        first.sort(key=lambda a: (a.success, a.attempt_id not in solved))
        attempt = first[0] if first else None
        others = [a.attempt_id for a in first[1:]]
        problem_id, reflections = whole, None
    elif table == "rollouts":  # mined in another run: only the training is here
        attempt, reflections, others, problem_id, retries = None, None, [], "", []
    else:
        attempt, reflections = _failed_attempt(run, table, whole)
        others, problem_id = [], attempt.problem_id
        retries = _retries(run, [attempt.attempt_id])
    rollouts = [] if reflections else list(read(run, "rollouts", {ID_COLUMNS.get(table, "attempt_id"): whole}))
    samples = _telling(rollouts)
    return {
        "problem": _dict(next(read(run, "problems", {"problem_id": problem_id}), None)),
        "attempt": _dict(attempt),
        "tries": _tries(run, attempt, retries, reflections) if attempt else [],
        "other_attempts": others,
        "samples": [asdict(sample) for sample in samples],
        "other_samples": len(rollouts) - len(samples),
    }


def show(run: Path, id: str, console: Console) -> None:
    """Print the story around `id` to `console`. Raises RrrError (exit 3) as `story` does."""
    parts = story(run, id)
    problem, attempt = parts["problem"], parts["attempt"]
    if problem:
        kind = f"{problem['task']} {problem['difficulty']}, {problem['split']}"
        _section(console, f"problem {problem['problem_id']}, {kind}")
        _turns(console, problem["prompt"])
    if attempt:
        _attempt(console, "try", attempt)
    for pair in parts["tries"]:
        if reflection := pair["reflection"]:
            leak = ", holds a right answer" if reflection["solves"] else ""
            _section(
                console, f"reflection {reflection['reflection_id']} by {reflection['reflector']}, "
                f"{_length(reflection['tokens'])}{reflection['finish_reason']}{leak}",
            )
            _thought(console, reflection["thought"])
            console.print(Text(safe_text(reflection["text"])))
        if retry := pair["retry"]:
            _attempt(console, retry["phase"] if pair["reflection"] else f"{retry['phase']} without a reflection", retry)
    for sample in parts["samples"]:
        _sample(console, sample)
    if others := parts["other_samples"]:
        query = f'rrr sql --run {run} "select step, reward, reflection, retry, answer from rollouts"'
        console.print(Text(f"\n{others} more samples of training; to see them: {query}", style="dim"))
    if others := parts["other_attempts"]:
        console.print(Text(f"\n{len(others)} more tries at this problem, such as: rrr show {others[0]}", style="dim"))


def _find(run: Path, id: str) -> tuple[str, str]:
    """The table and the whole id that `id` begins."""
    if len(id) < LEAST:
        raise RrrError(f"{id!r} is too short: type at least {LEAST} characters of an id")
    matches = {
        (table, row[column])
        for table, column in ID_COLUMNS.items()
        for row in read(run, table, columns=[column]) if row[column].startswith(id)
    }
    exact = [entry for entry in matches if entry[1] == id]
    if len(exact) == 1:
        return exact[0]
    if len(matches) == 1:
        return matches.pop()
    trained = {row["attempt_id"] for row in read(run, "rollouts", columns=["attempt_id"])}
    trained = {whole for whole in trained if whole.startswith(id)}
    if len(trained) == 1 and not matches:
        return "rollouts", trained.pop()
    if matches:
        shown = ", ".join(sorted(f"{ID_COLUMNS[table].removesuffix('_id')} {whole}" for table, whole in matches)[:8])
        raise RrrError(f"{id} begins {len(matches)} ids: {shown}; type more of it")
    raise RrrError(
        f"{safe_text(id)} begins no problem, attempt or reflection of {run}; "
        f'to see some: rrr sql --run {run} "select problem_id, attempt_id, reflection_id from repairs limit 5"'
    )


def _failed_attempt(run: Path, table: str, id: str) -> tuple[Attempt, list[str] | None]:
    """The first try that the id is about, and the reflections to show (None: all)."""
    reflections = None
    if table == "reflections":
        reflection: Reflection = next(read(run, "reflections", {"reflection_id": id}))
        id, reflections = reflection.attempt_id, [reflection.reflection_id]
    attempt: Attempt | None = next(read(run, "attempts", {"attempt_id": id}), None)
    if attempt is not None and attempt.parent_id is not None:
        reflections = [attempt.reflection_id or ""]
        id = attempt.parent_id
        attempt = next(read(run, "attempts", {"attempt_id": id}), None)
    if attempt is None:
        raise RrrError(f"{run} doesn't hold the attempt {id} this belongs to; type --run with the run it was mined in")
    return attempt, reflections


def _retries(run: Path, parents: list[str]) -> list[Attempt]:
    return list(read(run, "attempts", {"parent_id": parents}))


def _tries(
    run: Path, attempt: Attempt, retries: list[Attempt], only: list[str] | None
) -> list[dict[str, Any]]:
    """Each reflection on `attempt` beside each retry that saw it; then the retries that saw none."""
    reflections: list[Reflection] = list(read(run, "reflections", {"attempt_id": attempt.attempt_id}))
    pairs: list[tuple[Reflection | None, Attempt | None]] = []
    for reflection in reflections:
        after = [(reflection, r) for r in retries if r.reflection_id == reflection.reflection_id]
        pairs += after or [(reflection, None)]
    pairs += [(None, r) for r in retries if r.parent_id == attempt.attempt_id and r.reflection_id is None]
    return [
        {"reflection": _dict(reflection), "retry": _dict(retry)} for reflection, retry in pairs
        if only is None or (reflection.reflection_id if reflection else "") in only
    ]


def _attempt(console: Console, name: str, attempt: dict[str, Any]) -> None:
    length = _length(attempt["completion_tokens"])
    _section(console, f"{name} {attempt['attempt_id']} by {attempt['model']}, {length}{attempt['finish_reason']}")
    if attempt["phase"] == "repair":  # its transcript is the repaired output alone
        _thought(console, attempt["thoughts"])
    _turns(console, attempt["transcript"])
    if attempt["invented"]:
        console.print(Text("dropped, written in the environment's place: ", "dim")
                      + Text(safe_text(attempt["invented"]), "dim"))
    console.print(Text("→ ") + _verdict(attempt) + Text(f"  {safe_text(attempt['feedback'])}"))


def _length(tokens: int | None) -> str:
    return f"{tokens} tokens, " if tokens is not None else ""  # not every server counts them


def _telling(rollouts: list[Rollout]) -> list[Rollout]:
    """Of the samples of the last step among them the first that passed and the first that didn't."""
    last = max((sample.step for sample in rollouts), default=0)
    samples = sorted((s for s in rollouts if s.step == last), key=lambda s: (s.group, s.sample_index))
    firsts = {bool(sample.success): sample for sample in reversed(samples)}
    return [firsts[passed] for passed in (True, False) if passed in firsts]


def _sample(console: Console, sample: dict[str, Any]) -> None:
    """A sample of training: its reflection if there is one, the try that judged it (of several the whole conversation),
    and what it earned."""
    text = sample["answer"] if sample["retry"] is None else sample["retry"]
    parts = [("retry" if sample["answer"] is None else "answer", sample["try_finish"])]
    if sample["reflection"] is not None:
        parts.insert(0, ("reflection", sample["reflection_finish"]))
    _section(
        console, f"training step {sample['step']}, group {sample['group']}, sample {sample['sample_index']}: "
        + ", ".join(f"{name} ({finish})" for name, finish in parts),
    )
    if sample["reflection"] is not None and sample["conversation"] is None:
        _thought(console, sample["reflection_thought"])
        console.print(Text("reflection: ", "dim") + Text(safe_text(sample["reflection"])))
    _turns(console, sample["conversation"] or sample["transcript"] or [{"role": "assistant", "content": text}])
    earned = "no reward" if sample["reward"] is None else f"reward {sample['reward']:g}"
    console.print(Text("→ ") + _verdict(sample) + Text(f"  {earned}, advantage {sample['advantage']:.2f}"))


def _verdict(row: dict[str, Any]) -> Text:
    passed = row["success"]
    return Text("passed" if passed else f"failed: {row['error_type']}", "bold green" if passed else "bold red")


def _turns(console: Console, turns: Iterable[dict[str, str]]) -> None:
    for turn in turns:
        console.print(Text(f"{turn['role']}: ", "dim") + Text(safe_text(turn["content"])))


def _thought(console: Console, thought: str | None) -> None:
    if thought:
        console.print(Text("thought: ", "dim") + Text(safe_text(thought), "dim"))


def _section(console: Console, title: str) -> None:
    console.print(Rule(Text(safe_text(title)), align="left"))


def _dict(record: Problem | Attempt | Reflection | Message | None) -> dict[str, Any] | None:
    return asdict(record) if record is not None else None

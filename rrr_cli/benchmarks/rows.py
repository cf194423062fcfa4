"""Local files in place of the hub's data, for the same official task of lm-eval.

Reads the files; writes every checked row into a working folder, with a task YAML that includes the official one.
Refuses a missing file and a row that isn't JSON or without the benchmark's columns: a figure is of all rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rrr_cli.benchmarks import BENCHMARKS, Benchmark
from rrr_cli.errors import RrrError
from rrr_cli.tasks.reading import rows_of


def local_file(folder: Path, name: str) -> Path:
    """`name`.jsonl.gz or `name`.jsonl in `folder`. Raises RrrError (exit 3) if there is neither."""
    for path in (folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl"):
        if path.is_file():
            return path
    names = ", ".join(f"{file}.jsonl[.gz]" for b in BENCHMARKS.values() for file in b.files.values())
    raise RrrError(f"--data-dir {folder} has no {name}.jsonl.gz or {name}.jsonl; the four benchmarks need {names}")


def copy_rows(path: Path, benchmark: Benchmark, work: Path) -> Path:
    """The checked rows of `path` as plain JSON Lines in `work`, without rows whose `answer` isn't their `answer_index`.

    MMLU-Pro has one such row (question_id 3983). Raises RrrError (exit 3): no rows, or rows of something else.
    """
    copy, source = work / f"{path.name.partition('.')[0]}.jsonl", str(path)
    count = 0
    with copy.open("w") as out:
        for place, found in rows_of(source, tuple(benchmark.columns)):
            row = checked(found, benchmark, place)
            if "answer_index" not in row or row["answer"] == "ABCDEFGHIJ"[row["answer_index"]]:
                out.write(json.dumps({name: row[name] for name in benchmark.columns}) + "\n")
                count += 1
    if not count:
        raise RrrError(f"{path} has no rows")
    return copy


def checked(row: dict[str, Any] | RrrError, benchmark: Benchmark, place: str) -> dict[str, Any]:
    """`row` if it has the benchmark's columns. Raises RrrError (exit 3)."""
    if isinstance(row, RrrError):
        raise row
    for name, kinds in benchmark.columns.items():
        if not isinstance(row.get(name), kinds):
            problem = f"is {type(row[name]).__name__}" if name in row else "is missing"
            raise RrrError(f"{place}: {name} {problem}; a row needs the columns {', '.join(benchmark.columns)}")
    if "activity_label" in row:  # ctx without the label differs from the official prompt
        raise RrrError(f"{place}: ctx must begin with the activity's label, as in 'High jump: The boy …'")
    if not 0 <= row.get("answer_index", 0) < 10:
        raise RrrError(f"{place}: answer_index {row['answer_index']} is not in 0..9")
    return row


def write_task(official: Path, benchmark: Benchmark, rows: dict[str, Path], work: Path) -> Path:
    """Write a task YAML (JSON is YAML) for local rows into `work`, over the official one; return its path."""
    path = work / official.name
    path.write_text(json.dumps({
        "include": str(official), "task": official.stem, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(file) for split, file in rows.items()},
                           "cache_dir": str(work / "cache")},
        **benchmark.local,
    }))
    return path

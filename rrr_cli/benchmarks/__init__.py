"""The four benchmarks on which forgetting is measured: lm-eval's tasks and scores, and the names of local files.

`rows.py` replaces the hub's data by local files, `harness.py` runs lm-evaluation-harness. Reads and writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SUBJECTS = (
    "biology", "business", "chemistry", "computer_science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)


@dataclass(frozen=True)
class Benchmark:
    """Tasks of lm-eval, one of their scores, and how local rows replace the hub's."""

    folder: str  # of the official YAMLs, in lm_eval/tasks
    tasks: tuple[str, ...]  # lm-eval's names; each is a YAML in `folder`
    metric: str
    filter: str  # how lm-eval parses the answer out of the text
    files: dict[str, str]  # split -> file of --data-dir, without .jsonl or .jsonl.gz
    columns: dict[str, tuple[type, ...]]  # of every local row -> allowed types
    local: dict[str, Any] = field(default_factory=dict)  # settings of the YAML for local rows that differ


BENCHMARKS = {
    # No validation rows, so no worked examples: 0-shot from local files, lm-eval's 5 from the hub.
    "mmlu_pro": Benchmark(
        "mmlu_pro", tuple(f"mmlu_pro_{subject}" for subject in SUBJECTS), "exact_match", "custom-extract",
        {"test": "mmlu_pro_test"},
        {"question_id": (int,), "question": (str,), "options": (list,), "answer": (str,), "answer_index": (int,),
         "category": (str,)},
        {"num_fewshot": 0, "fewshot_split": None, "fewshot_config": None},
    ),
    "gsm8k": Benchmark(
        "gsm8k", ("gsm8k",), "exact_match", "flexible-extract",
        {"test": "gsm8k_test", "train": "gsm8k_train"}, {"question": (str,), "answer": (str,)},
    ),
    # Local rows have one `ctx`, already joined and cleaned as the official task would.
    "hellaswag": Benchmark(
        "hellaswag", ("hellaswag",), "acc_norm", "none",
        {"validation": "hellaswag_val"}, {"ctx": (str,), "label": (int, str), "endings": (list,)},
        {"training_split": None, "process_docs": None, "doc_to_text": "{{ctx}}", "doc_to_choice": "endings"},
    ),
    "math": Benchmark(
        "minerva_math", ("minerva_math500",), "math_verify", "none",
        {"test": "math500"}, {"problem": (str,), "solution": (str,)},
    ),
}

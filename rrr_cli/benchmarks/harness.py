"""lm-evaluation-harness (lm-eval) as a library: loads a benchmark, and scores a model on every item of it.

Reads data from the hub or from local files (`rows.py`), and models as every stage does. Refuses data that doesn't load
and a model whose context is too short for an answer.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli.benchmarks import BENCHMARKS, Benchmark
from rrr_cli.benchmarks.rows import copy_rows, local_file, write_task
from rrr_cli.errors import RrrError
from rrr_cli.records import content_id

if TYPE_CHECKING:
    from rrr_cli.engines.template import Template

GENERATED = 256  # tokens; lm-eval's limit for a task without one


@dataclass(frozen=True)
class Item:
    """One question of a benchmark."""

    item_id: str  # hash of the question's row and its index
    task: str  # lm-eval's task
    index: int  # 0-based, in the task


@dataclass(frozen=True)
class Loaded:
    """A benchmark's tasks with their data, and the items to ask."""

    name: str
    benchmark: Benchmark
    tasks: dict[str, Any]  # name -> lm_eval Task; only those with an item
    items: list[Item]
    source: str  # a hub id, or local files
    fingerprint: str  # of the items and of the worked examples

    @property
    def shots(self) -> int:
        """Worked examples before each question."""
        return max(int(task.config.num_fewshot) for task in self.tasks.values())

    @property
    def writes(self) -> int:
        """Most tokens of an answer; 0 where the model writes nothing, because choices are scored."""
        return max(longest_answer(task) for task in self.tasks.values())


def longest_answer(task: Any) -> int:
    """Most tokens that a task lets a model write; 0 for multiple choice."""
    if task.config.output_type != "generate_until":
        return 0
    return int(task.config.generation_kwargs.get("max_gen_toks", GENERATED))


def load(name: str, data_dir: Path | None, work: Path, limit: int | None, seed: int, max_tokens: int | None) -> Loaded:
    """The benchmark's tasks, ready to run, and its items; the folder `work` must exist as long as they are used.

    `limit`: that many items (MMLU-Pro: spread over its subjects), None for all. `seed` draws the worked examples.
    `max_tokens` replaces the tasks' own. Raises RrrError (exit 3): a missing file or column, or data that doesn't load.
    """
    benchmark = BENCHMARKS[name]
    all_tasks, source = load_tasks(name, benchmark, data_dir, work)
    counts = spread(limit, [len(task.eval_docs) for task in all_tasks.values()])
    tasks = {task: all_tasks[task] for task, count in zip(all_tasks, counts, strict=True) if count}
    for task in tasks.values():
        if task.config.num_fewshot is None:
            task.set_config(key="num_fewshot", value=0)
        if max_tokens is not None and longest_answer(task):
            task.set_config(key="generation_kwargs", value={"max_gen_toks": max_tokens}, update=True)
        task.set_fewshot_seed(seed=seed)
    items = [
        Item(content_id(name, task, i, row), task, i)
        for task, count in zip(all_tasks, counts, strict=True)
        for i, row in enumerate(all_tasks[task].eval_docs.select(range(count)))
    ]
    shots = [list(task.fewshot_docs()) for task in tasks.values() if task.config.num_fewshot]
    return Loaded(name, benchmark, tasks, items, source, content_id(name, [i.item_id for i in items], shots))


def load_tasks(name: str, benchmark: Benchmark, data_dir: Path | None, work: Path) -> tuple[dict[str, Any], str]:
    """(name -> lm_eval Task, where the data came from). Raises RrrError (exit 3) as `load`."""
    import lm_eval.tasks

    official = Path(lm_eval.tasks.__file__).parent / benchmark.folder
    paths = [official / f"{task}.yaml" for task in benchmark.tasks]
    source = ""
    if data_dir is not None:
        files = {split: local_file(data_dir, file) for split, file in benchmark.files.items()}
        rows = {split: copy_rows(path, benchmark, work) for split, path in files.items()}
        paths = [write_task(path, benchmark, rows, work) for path in paths]
        source = ", ".join(path.name for path in files.values())
    try:
        tasks = lm_eval.tasks.TaskManager(include_defaults=False).load([str(path) for path in paths])["tasks"]
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise RrrError(
            f"--benchmark {name}: its data doesn't load ({why}); check the network, or name a folder with its files: "
            "--data-dir DIR"
        ) from None
    except IndexError:  # lm-eval reads a task's first item while it loads
        raise RrrError(f"--benchmark {name}: one of its tasks has no rows: {', '.join(benchmark.tasks)}") from None
    return tasks, source or next(iter(tasks.values())).DATASET_PATH


def spread(limit: int | None, sizes: Sequence[int]) -> list[int]:
    """How many of each task's items, at most `limit` in all; a higher limit keeps the items of a lower one."""
    if limit is None:
        return list(sizes)
    each, more = divmod(limit, len(sizes))
    return [min(size, each + (i < more)) for i, size in enumerate(sizes)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send lm-eval's output to stderr, not stdout; discard it, progress bars too, if stderr is not a terminal."""
    import logging

    import datasets
    import transformers

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


class Harness:
    """One model in memory for lm-eval, which decodes greedily or scores choices by their likelihood."""

    def __init__(self, model: str, dtype: str, device: str, batch_size: int, chat: Template | None) -> None:
        """`chat`: how to ask in the model's chat format; None: without one. Raises RrrError (exit 3): no such model, or
        no chat template."""
        from lm_eval.models.huggingface import HFLM

        from rrr_cli.engines.loading import loading
        from rrr_cli.engines.models import load_tokenizer, resolve
        from rrr_cli.engines.transformers import load_weights

        resolved = resolve(model)
        tokenizer = load_tokenizer(resolved)
        if chat is not None and not tokenizer.chat_template:
            raise RrrError(f"--model {model} has no chat template; leave --apply-chat-template out")
        self.model, self.chat = model, chat is not None
        lm = load_weights(resolved, dtype, device)
        with loading(f"--model {model} can't be tested by lm-eval"):
            self.lm = HFLM(pretrained=lm, tokenizer=tokenizer, batch_size=batch_size,
                           chat_template_args=chat.keywords if chat is not None else None)

    def ask(self, loaded: Loaded, seed: int) -> list[dict[str, Any]]:
        """task, item_id, item_index, score, text and prompt_cut (see `records.Forgetting`), a dict an item.

        Raises RrrError (exit 3): an answer doesn't fit the model's context.
        """
        from lm_eval.evaluator import evaluate

        if loaded.writes >= self.lm.max_length:
            raise RrrError(
                f"--model {self.model} has a context of {self.lm.max_length} tokens, and an answer to {loaded.name} "
                f"may have {loaded.writes}: type --max-tokens N, well under {self.lm.max_length}"
            )
        counts = Counter(item.task for item in loaded.items)
        for task in loaded.tasks.values():  # again, so that every model gets the same worked examples
            task.set_fewshot_seed(seed=seed)
        result = evaluate(
            lm=self.lm, task_dict={"tasks": loaded.tasks}, samples={task: range(n) for task, n in counts.items()},
            bootstrap_iters=0, apply_chat_template=self.chat, fewshot_as_multiturn=self.chat,
        )
        assert result is not None  # None only on other ranks of a distributed run
        samples = {
            (task, sample["doc_id"]): sample for task, rows in result["samples"].items() for sample in rows
            if sample["filter"] == loaded.benchmark.filter
        }
        return [self._row(item, samples[item.task, item.index], loaded) for item in loaded.items]

    def _row(self, item: Item, sample: dict[str, Any], loaded: Loaded) -> dict[str, Any]:
        writes = longest_answer(loaded.tasks[item.task])
        return {
            "task": item.task, "item_id": item.item_id, "item_index": item.index,
            "score": float(sample[loaded.benchmark.metric]), "text": sample["resps"][0][0] if writes else None,
            "prompt_cut": self._is_cut(sample["arguments"], writes),
        }

    def _is_cut(self, arguments: Sequence[Any], writes: int) -> bool:
        """Whether lm-eval cut off the beginning of a prompt. `arguments`: (prompt, choice or settings) pairs."""
        room = self.lm.max_length - writes if writes else self.lm.max_length + 1
        texts = [prompt if writes else prompt + choice for prompt, choice in arguments]
        return any(len(self.lm.tok_encode(text)) > room for text in texts)

    def close(self) -> None:
        """Free the model's memory for the next one."""
        import gc

        import torch

        del self.lm
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

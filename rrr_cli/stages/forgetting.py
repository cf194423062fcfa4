"""`rrr forgetting`: what a model lost by training. Models on MMLU-Pro, GSM8K, HellaSwag and MATH-500, item by item.

Reads models and benchmarks, from the hub or from local files; writes `forgetting`, a row an item and model. lm-eval
asks and scores (greedily, or by log-likelihood). Every model gets the same items with the same worked examples, and is
compared with the first. One model on one benchmark is one part: a rerun does the missing ones. Refuses other options,
data or weights than those of the table's rows, and a model whose context is too short for an answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrr_cli import options as shared
from rrr_cli.benchmarks import BENCHMARKS
from rrr_cli.benchmarks.harness import Harness, Loaded, load, quiet
from rrr_cli.engines.template import Template
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.options import RunOptions, option
from rrr_cli.progress import Work
from rrr_cli.records import Forgetting, content_id
from rrr_cli.stages import Stage
from rrr_cli.stages.identity import identity
from rrr_cli.stages.mined import mining
from rrr_cli.stages.models import check_names, own_engine, parse_models
from rrr_cli.stages.rendering import as_rendered, dated

if TYPE_CHECKING:
    from rich.console import Console

PAPER_LINE = 0.01  # "mostly under 1 %": arXiv 2505.24726


@dataclass(frozen=True)
class Options(RunOptions):
    """Flags of `rrr forgetting`."""

    model: tuple[str, ...] = option(
        (), "NAME=MODEL, once a model; all are compared with the first.  [default: base=the model mined, "
        "trained=RUN/models/policy]", identity=False)
    benchmark: tuple[str, ...] = option(
        tuple(BENCHMARKS), f"Once a benchmark: {', '.join(BENCHMARKS)}.", identity=False)
    data_dir: Path | None = option(None, "Folder of the data as JSON Lines, in place of the hub.", identity=False)
    apply_chat_template: bool = option(False, "Ask in the model's chat format. lm-eval publishes figures without it.")
    template_args: str | None = shared.template_args()
    max_tokens: int | None = option(
        None, "Most tokens of an answer.  [default: lm-eval's: 2048 MMLU-Pro, 256 GSM8K and MATH]", least=1)
    max_drop: float | None = option(
        None, "POINTS: exit 5 when a benchmark drops by more.", least=0, most=100, identity=False)
    limit: int | None = option(None, "At most this many items of each benchmark.", least=1, panel="Run")
    seed: int = option(1234, "Draws the worked examples; 1234 is lm-eval's.", least=0, most=2**32 - 1, panel="Run")
    batch_size: int = option(
        16, "Texts at once; changes speed and memory.", least=1, identity=False, panel="Hardware")
    dtype: str = shared.dtype()
    device: str = shared.device()


def run(options: Options) -> dict[str, Any]:
    """Test every model on every benchmark, and return what `--json` prints.

    Raises RrrError: bad options (exit 2), unfit data, model or table (3), a missing extra (4), stopped (130, 143).
    """
    models, names = models_and_benchmarks(options)
    if options.dry_run:
        return {"benchmarks": names, "limit": options.limit, "models": models}
    options = chatting(options, models)
    from importlib.metadata import version

    from rrr_cli.engines.models import resolve
    from rrr_cli.extras import require
    from rrr_cli.store.artifacts import Writer, read

    require("eval", "lm_eval", "math_verify", "antlr4", "torch", "transformers", "scipy")
    weights = {name: resolve(path).fingerprint for name, path in models.items()}
    lm_eval = version("lm_eval")
    depends_on = identity(options, None, {}, lm_eval=lm_eval)
    table = Writer(options.run, "forgetting", "forgetting", depends_on, overwrite=options.overwrite, seed=options.seed)
    with table as writer, tempfile.TemporaryDirectory(prefix="rrr-benchmarks-") as work, quiet():
        done = writer.done("forgetting_id")  # first: from here on a part may be missing
        loaded = {
            name: load(name, options.data_dir, Path(work), options.limit, options.seed, options.max_tokens)
            for name in names
        }
        check_names(options.run, "forgetting", weights)
        check_data(options.run, loaded)
        items = sum(len(benchmark.items) for benchmark in loaded.values())
        with Work("forgetting", items * len(models), quiet=True) as progress:  # lm-eval draws its own bars
            for name, path in models.items():
                stamp = {"model": name, "model_path": path, "model_fingerprint": weights[name]}
                remaining = [b for b in loaded.values() if row_id(b.items[0].item_id, stamp) not in done]
                progress.count(items - sum(len(b.items) for b in remaining))
                for rows in judged(path, stamp, remaining, options):
                    writer.append(rows)
                    progress.advance(len(rows))
        results = [r for r in read(options.run, "forgetting") if r.benchmark in loaded and r.model in models]
    return {"lm_eval": lm_eval, "apply_chat_template": options.apply_chat_template, "limit": options.limit,
            **summarise(results, names, list(models))}


def models_and_benchmarks(options: Options) -> tuple[dict[str, str], list[str]]:
    """(name -> model, benchmarks) that the options mean. Raises RrrError (exit 2): an unknown one, or too few."""
    models = parse_models(options.model) or trained_and_base(options.run)
    for name, spec in models.items():
        if own_engine(name, spec)[0] is not None:
            raise RrrError(f"--model {name}={spec}: lm-eval runs each model on this machine: type {name}=MODEL without "
                           "an engine", USAGE)
    names = list(dict.fromkeys(options.benchmark))
    for name in names:
        if name not in BENCHMARKS:
            raise RrrError(f"--benchmark {name}: it must be one of {', '.join(BENCHMARKS)}", USAGE)
    if options.max_drop is not None and len(models) < 2:
        raise RrrError("--max-drop compares: give the base and a trained model, --model NAME=MODEL twice", USAGE)
    return models, names


def chatting(options: Options, models: dict[str, str]) -> Options:
    """The options with the chat template's arguments: those given, else those of the mining; the run's date with them
    where a template prints it. Raises RrrError (exit 2): arguments without --apply-chat-template."""
    if options.apply_chat_template:
        return dated(as_rendered(options, mining(options.run)), models.values(), options.run)
    if options.template_args is not None:
        raise RrrError("--template-args is for chats: type --apply-chat-template too, or leave it out", USAGE)
    return options


def judged(
    path: str, stamp: dict[str, Any], benchmarks: Sequence[Loaded], options: Options
) -> Iterator[list[Forgetting]]:
    """One model's rows, a benchmark at a time; its memory is freed after the last."""
    if not benchmarks:
        return
    chat = Template(options.template_args) if options.apply_chat_template else None
    harness = Harness(path, options.dtype, options.device, options.batch_size, chat)
    try:
        for loaded in benchmarks:
            shared_columns = {
                "benchmark": loaded.name, "metric": f"{loaded.benchmark.metric},{loaded.benchmark.filter}",
                "shots": loaded.shots, "apply_chat_template": options.apply_chat_template,
                "item_limit": options.limit, "source": loaded.source, "data_fingerprint": loaded.fingerprint, **stamp,
            }
            yield [
                Forgetting(forgetting_id=row_id(row["item_id"], stamp), **shared_columns, **row)
                for row in harness.ask(loaded, options.seed)
            ]
    finally:
        harness.close()


def trained_and_base(run: Path) -> dict[str, str]:
    """The model that the run was mined with, and its policy. Raises RrrError (exit 2) if one is missing."""
    mined, policy = mining(run).get("model"), run / "models" / "policy"
    if not mined or not policy.is_dir():
        raise RrrError(f"{run} has no mined model and policy; type --model base=MODEL --model trained=MODEL", USAGE)
    return {"base": mined, "trained": str(policy)}


def row_id(item_id: str, stamp: dict[str, str]) -> str:
    """A row's id: a hash of the item, the model's name and its weights."""
    return content_id("forgetting", item_id, stamp["model"], stamp["model_fingerprint"])


def check_data(run: Path, loaded: dict[str, Loaded]) -> None:
    """Raise RrrError (exit 3) if a benchmark's data isn't that of its rows in the table."""
    from rrr_cli.store.artifacts import read

    for row in read(run, "forgetting", columns=["benchmark", "data_fingerprint"]):
        benchmark = row["benchmark"]
        if benchmark in loaded and loaded[benchmark].fingerprint != row["data_fingerprint"]:
            raise RrrError(
                f"{benchmark} had other data when it was tested in {run}: it is now {loaded[benchmark].source}; name "
                "the same data, type --overwrite to test again, or --run NAME for another run"
            )


def summarise(rows: Sequence[Forgetting], benchmarks: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    """The accuracy of every model on every benchmark, and each model's change against the first, paired by item."""
    from rrr_cli.metrics import difference, mcnemar, rate

    tested, comparisons = [], []
    for name in benchmarks:
        of = {model: {r.item_id: r for r in rows if r.benchmark == name and r.model == model} for model in models}
        first = next(iter(of[models[0]].values()))
        scores = {model: [bool(row.score) for _, row in sorted(by_id.items())] for model, by_id in of.items()}
        tested.append({
            "benchmark": name, "n": len(of[models[0]]), "limit": first.item_limit, "metric": first.metric,
            "shots": first.shots, "source": first.source,
            "accuracy": {model: asdict(rate(s)) for model, s in scores.items()},  # type: ignore[arg-type]
            "prompts_cut": {model: sum(r.prompt_cut for r in by_id.values()) for model, by_id in of.items()},
        })
        for model in models[1:]:
            test = mcnemar(scores[models[0]], scores[model])
            change = difference(test.won, test.lost, len(scores[model]))
            comparisons.append({
                "benchmark": name, "a": models[0], "b": model, "n": len(scores[model]), "limit": first.item_limit,
                "change": asdict(change), **asdict(test),
                "under_one_point": verdict(change.low, change.high),
            })
    return {"models": list(models), "benchmarks": tested, "comparisons": comparisons}


def verdict(low: float, high: float) -> str:
    """Whether the loss is under the paper's 1 %, by the interval of the change; open where 1 % is inside it."""
    return "yes" if low > -PAPER_LINE else "no" if high < -PAPER_LINE else "open"


def check_gate(result: dict[str, Any], options: Options) -> None:
    """Raise RrrError (exit 5) when a benchmark dropped by more than --max-drop points."""
    if options.max_drop is None:
        return
    over = [c for c in result["comparisons"] if -100 * c["change"]["value"] > options.max_drop]
    if over:
        shown = ", ".join(
            f"{c['benchmark']} by {-100 * c['change']['value']:.1f} ({c['b']}, n = {c['n']})" for c in over)
        raise RrrError(f"dropped by more than the {options.max_drop:g} points of --max-drop: {shown}", NOTHING)


def show(result: dict[str, Any], console: Console) -> None:
    """The summary as a table."""
    from rrr_cli.stages.tables import forgetting_table

    forgetting_table(result, console)


STAGE = Stage(Options, run, "rrr forgetting --limit 100 --dry-run", show, check_gate)

"""A run's sections: for each of its tables the data that `page.html.j2` shows, and the SQL behind them.

Reads a run through the connection of `rrr sql`; writes nothing. A section without its table is left out, and the page
says so. Runs no code that a run names: a problem's text comes from the run, or from a built-in task.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from rrr_cli.engines.models import EMBEDDED
from rrr_cli.errors import RrrError
from rrr_cli.records import TABLES
from rrr_cli.report import charts, queries
from rrr_cli.report.results import (
    Row,
    at_equal_tokens,
    crossed,
    crossed_at_equal_tokens,
    curves,
    forgotten,
    kept_aside,
    results,
    share,
    verdicts,
)
from rrr_cli.stages import cross, cross_curves, swapped
from rrr_cli.stages.summary import MEASURES, in_words
from rrr_cli.store.artifacts import exists, provenance, read
from rrr_cli.store.database import DAMAGED, answer, connect
from rrr_cli.tasks import TASKS, load_task

MOST_TEXT = 2000  # characters of a text in the gallery


class Ask:
    """Runs statements on one run, and records those of the current section for the page."""

    def __init__(self, run: Path) -> None:
        self.connection = connect([run])
        self.answers: dict[str, list[Row]] = {}
        self.section: list[str] = []

    def __call__(self, sql: str) -> list[Row]:
        """The rows, as dicts. Raises RrrError (exit 3): a damaged part."""
        if sql not in self.section:
            self.section.append(sql)
        if sql not in self.answers:
            try:
                self.answers[sql] = answer(self.connection, sql).read_all().to_pylist()
            except (duckdb.Error, pa.ArrowException) as error:
                if DAMAGED:
                    raise DAMAGED.pop() from error
                raise
        return self.answers[sql]


@dataclass
class Section:
    """One section of the page: `name` picks its block in the template, `data` fills it."""

    name: str
    title: str
    data: Row
    sql: list[str]


@dataclass
class Story:
    """The report on one run: its sections, what is left out and why, and warnings."""

    name: str
    path: str
    sections: list[Section] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    result: Row | None = None  # as `rrr eval --json`
    curves: list[Row] = field(default_factory=list)
    at_equal_tokens: list[Row] = field(default_factory=list)
    verdicts: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    warnings_sql: list[str] = field(default_factory=list)
    task: str = ""


def story_of(name: str, run: Path) -> Story:
    """Every section of the run's report. Raises RrrError (exit 3): a damaged part."""
    ask, story = Ask(run), Story(name, str(run))
    for block, title, tables, command, build in SECTIONS:
        ask.section, there = [], any(exists(run, table) for table in tables)
        data = build(ask, run, story) if there else None
        if data:
            story.sections.append(Section(block, title, data, ask.section))
        else:
            why = "has no rows for it" if there else f"doesn't exist; rrr {command} writes it"
            story.left_out.append(f"{title}: the table {tables[0]} {why}")
    ask.section = []
    story.warnings, story.warnings_sql = list(warnings(ask, run, story)), ask.section
    ask.section = []
    story.sections.append(Section("provenance", "Provenance", origins(ask, run), ask.section))
    return story


def names_of(run: Path, table: str) -> list[str]:
    """The models of a table by the names they were tested as, in the order they were written: the first one first."""
    return list(dict.fromkeys(row["model"] for row in read(run, table, columns=["model"])))


def successes(ask: Ask, run: Path, story: Story) -> Row | None:
    """Success against tokens: the chart, its points, and the paired tests at equal tokens."""
    names = names_of(run, "evaluations")
    story.curves, story.at_equal_tokens = curves(ask, names), at_equal_tokens(ask, names)
    if not story.curves:
        return None
    chart = charts.success(story.curves, names, f"{story.name}: share solved against mean tokens spent")
    return {"curves": story.curves, "tests": story.at_equal_tokens, "chart": chart, "arms": charts.ARM_WORDS}


def earned(ask: Ask, run: Path, story: Story) -> Row | None:
    """Reflectors by actors on the first model's failures, and what each further model earned as either; then the first
    model's retries after the others' reflections, against its own tries at equal tokens."""
    if story.result is None:
        return None
    matrix = crossed(ask, [model["name"] for model in story.result["models"]])
    if matrix is None:
        return None
    config: Row = next((p["config"] for p in provenance(run, "evaluations")), {})
    greedy = story.result["models"][0]["temperature"] == 0
    # A greedy retry that sees neither the failed try nor a reflection is the first try again, and no control.
    controls = ("blind",) if greedy and config.get("retry_context") == "reflection" else ("blind", "plain")
    tests = crossed_at_equal_tokens(ask, matrix["reflectors"], controls)
    story.result["cross"] = matrix | {"at_equal_tokens": tests}
    return {"cross": matrix, "words": cross.in_words(matrix), "swapped": swapped.in_words(matrix["swapped"]),
            "equal_tokens": cross_curves.in_words(tests)}


def evaluated(ask: Ask, run: Path, story: Story) -> Row | None:
    """Rates by model, the chart by level, won and lost, and whether reflecting beat its controls."""
    names = names_of(run, "evaluations")
    result = story.result = results(ask, names) | {
        "curves": story.curves, "at_equal_tokens": story.at_equal_tokens}
    story.verdicts = verdicts(ask, result)
    counts = {(f"{row['task']} {row['difficulty']}", row["model"]): row for row in ask(queries.BY_DIFFICULTY)}
    levels = list(dict.fromkeys(level for level, _ in counts))
    by_name = {model["name"]: model for model in result["models"]}
    shown = {
        (level, name): by_name[name]["by_difficulty"].get(row["difficulty"], by_name[name])
        for (level, name), row in counts.items()
    }
    if len(levels) > 1:
        levels = ["all", *levels]
        shown |= {("all", name): model for name, model in by_name.items()}
    story.task = levels[-1].split(" ")[0]
    return {
        "result": result, "verdicts": story.verdicts, "words": in_words(result), "measures": MEASURES,
        "chart": charts.bars(levels, names, shown, f"{story.name}: first and second tries by level"),
    }


def trained(ask: Ask, run: Path, story: Story) -> Row | None:
    """The learning curves."""
    steps = ask(queries.STEPS)
    chart = charts.curves(steps, f"{story.name}: learning curves")
    return {"steps": len(steps), "objective": steps[-1]["objective"], "chart": chart}


def tested(ask: Ask, run: Path, story: Story) -> Row | None:
    """What the policy solved, during its training, of problems that weren't trained on."""
    rows = kept_aside(ask)
    return {"rows": rows, "chart": charts.kept_aside(rows, f"{story.name}: problems kept aside, solved by step")}


def reflected(ask: Ask, run: Path, story: Story) -> Row | None:
    """Length and repetition of reflections, how many hold a right answer, and what they gain: a row a model."""
    assert story.result is not None
    rows = {row["model"]: row for row in ask(queries.REFLECTIONS)}
    models = [model for model in story.result["models"] if model["name"] in rows]
    ordered = [
        {**rows[model["name"]], "gain": model["second_try"]["value"] - model["first_try"]["value"],
         "solve": share(rows[model["name"]]["solving"], rows[model["name"]]["judged"])} for model in models]
    return {"rows": ordered} if ordered else None


def why_failed(ask: Ask, run: Path, story: Story) -> Row | None:
    """Error types of try 1 against try 2."""
    assert story.result is not None
    ask(queries.ERRORS)
    models = story.result["models"]
    kinds = dict.fromkeys(k for model in models for which in ("first", "second") for k in model["errors"][which])
    return {"models": models, "kinds": list(kinds)} if kinds else None


def forgetting(ask: Ask, run: Path, story: Story) -> Row | None:
    """Accuracy on other benchmarks, before and after training."""
    names = names_of(run, "forgetting")
    return {"names": names, "rows": forgotten(ask, names)}


def mined(ask: Ask, run: Path, story: Story) -> Row | None:
    """Counts of tries and failures by level, and the errors."""
    rows = ask(queries.MINED)
    story.task = story.task or (rows[0]["task"] if rows else "")
    return {"rows": rows, "errors": ask(queries.MINED_ERRORS)} if rows else None


def repaired(ask: Ask, run: Path, story: Story) -> Row | None:
    """Retries of mined failures, by reflector."""
    rows = ask(queries.REPAIRS)
    return {"rows": rows} if rows else None


def gallery(ask: Ask, run: Path, story: Story) -> Row | None:
    """A few examples of each kind: of the evaluation, else of the last training step, else of `reflect`."""
    if story.result is not None and len(story.result["models"]) > 1:
        sql, (before, after) = queries.STORIES_PAIRED, (model["name"] for model in story.result["models"][:2])
        rows = [row for row in ask(sql) if (row["before"], row["after"]) == (before, after)]
        kinds = {
            "fixed": f"Fixed: {after} repairs what {before} doesn't",
            "broken": f"Broken: {before} repairs what {after} doesn't", "not fixed": "Not fixed by either",
        }
    else:
        sql = queries.STORIES_OF_ONE if story.result is not None else queries.STORIES_OF_TRAINING
        if story.result is None and not exists(run, "rollouts"):
            sql = queries.STORIES_OF_REPAIRS
        rows = ask(sql)
        kinds = {"fixed": "Fixed: the retry passes", "not fixed": "Not fixed: the retry fails"}
    texts = problem_texts(run, {row["problem_id"] for row in rows if row["problem"] is None})
    rows = [{**row, "problem": row["problem"] or texts.get(row["problem_id"])} for row in rows]
    by_kind = [(title, [row for row in rows if row["kind"] == kind]) for kind, title in kinds.items()]
    objective = ask(queries.STEPS)[-1]["objective"] if exists(run, "steps") else None
    return {
        "kinds": [entry for entry in by_kind if entry[1]], "most": MOST_TEXT, "objective": objective,
        "marked": trained_texts(ask, run, sql == queries.STORIES_OF_TRAINING),
    } if rows else None


def trained_texts(ask: Ask, run: Path, in_training: bool) -> list[str]:
    """Which texts of an example GRPO trained; where it trains answers, a training's answer is in the column `retry`."""
    if not exists(run, "rollouts"):
        return ["reflection"]
    if exists(run, "steps") and ask(queries.STEPS)[-1]["objective"] == "distil":
        return ["retry"]
    trained = ask(queries.TRAINED_TEXTS)[0]
    retry = trained["retry"] or (in_training and trained["answer"])
    return [*(["reflection"] if trained["reflection"] else []), *(["retry"] if retry else [])]


def problem_texts(run: Path, ids: set[str]) -> dict[str, str]:
    """problem_id -> its text, generated by the evaluation's task; empty if that isn't built in or needs the hub."""
    config: Row = next((p["config"] for p in provenance(run, "evaluations")), {})
    data = config.get("data")
    if not ids or config.get("task") not in TASKS or (data is not None and not Path(data).is_file()):
        return {}
    try:
        texts = {}
        for problem in load_task(config["task"], config.get("level"), data).problems("test"):
            if problem.problem_id in ids:
                texts[problem.problem_id] = problem.prompt[-1].content
                if len(texts) == len(ids):
                    break
        return texts
    except RrrError:  # its data were changed or removed since
        return {}


def warnings(ask: Ask, run: Path, story: Story) -> Iterator[str]:
    """What a reader should know about the figures."""
    origin = {entry["stage"]: entry for table in TABLES for entry in provenance(run, table)}
    seeds = [f"{stage} with seed {entry['seed']}" for stage, entry in origin.items() if entry["seed"] is not None]
    if seeds:
        yield f"1 seed: {', '.join(seeds)}. Another seed may give other results."
    limited = [s for s, e in origin.items() if any(word.partition("=")[0] == "--limit" for word in e["argv"])]
    if limited:
        yield f"limit: {', '.join(limited)} used the first problems only (--limit)."
    if story.result is not None:
        yield from evaluation_warnings(ask, story.result, origin["eval"]["config"])
    if exists(run, "attempts"):
        for row in ask(queries.TRUNCATED_TRIES):
            if row["truncated"]:
                yield f"truncation: {of(row['truncated'], row['n'])} tries of phase {row['phase']} hit the token limit."
    if exists(run, "forgetting"):
        for row in ask(queries.FORGETTING):
            if row["prompts_cut"]:
                yield (f"truncation: {of(row['prompts_cut'], row['n'])} prompts of {row['benchmark']} lost their "
                       f"beginning in the context of {row['model']}.")
    if exists(run, "rollouts"):
        row = ask(queries.TRAINED_ON)[0]
        for column, text in (("truncated", "truncation: {} reflections of the training hit the token limit."),
                             ("tries_truncated", "truncation: {} tries of the training hit the token limit."),
                             ("solving", "answers: {} reflections of the training hold a right answer."),
                             ("unjudged", "judge: {} tries of the training could not be judged.")):
            if row[column]:
                yield text.format(of(row[column], row["n"]))


def evaluation_warnings(ask: Ask, result: Row, config: Row) -> Iterator[str]:
    """Unequal numbers of problems, leaks, reflections at the limit, and a model that is a demonstration."""
    if len({model["n"] for model in result["models"]}) > 1:
        counts = ", ".join(f"{model['name']} {model['n']}" for model in result["models"])
        yield f"unfinished: the models have unequal numbers of problems ({counts}); type rrr eval again."
    for row in ask(queries.REFLECTIONS):
        if row["solving"]:
            yield f"answers: {of(row['solving'], row['n'])} reflections of {row['model']} hold a right answer."
        longest = row["longest"]  # None where a server doesn't count tokens
        if longest is not None and longest >= config.get("reflection_tokens", longest + 1):
            yield (f"truncation: {of(row['at_longest'], row['n'])} reflections of {row['model']} are "
                   f"{longest} tokens long, the limit.")
    for row in ask(queries.MODELS):
        if (model := row["model_path"].removeprefix("transformers:").removeprefix("vllm:")) in EMBEDDED:
            yield f"demonstration: {row['model']} is rrr's embedded {model} model, not a pretrained one."


def of(part: int, whole: int) -> str:
    """ "3 of 40 (7.5 %)"."""
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"


def origins(ask: Ask, run: Path) -> Row:
    """What wrote the run: for each stage its tables, and the weights of each named model."""
    stages: dict[str, Row] = {}
    for table in TABLES:
        for entry in provenance(run, table):
            stage = stages.setdefault(entry["stage"], {**entry, "tables": []})
            stage["tables"].append(f"{table} ({entry['rows']:,} rows)")
            stage["command"] = shlex.join(["rrr", *entry["argv"][1:]])
    models = ask(queries.MODELS) if exists(run, "evaluations") else []
    return {"stages": sorted(stages.values(), key=lambda stage: stage["time"]), "models": models}


Build = Callable[[Ask, Path, Story], Row | None]
#: block of the template, title, tables (it needs one of them), the command that writes the first, its builder.
#: The evaluation comes before the others that need its result.
SECTIONS: list[tuple[str, str, tuple[str, ...], str, Build]] = [
    ("successes", "Success against tokens", ("evaluations",), "eval", successes),
    ("evaluated", "First and second tries", ("evaluations",), "eval", evaluated),
    ("earned", "Who earned it: reflector by actor", ("later_tries",), "eval --cross", earned),
    ("trained", "Learning curves", ("steps",), "grpo", trained),
    ("tested", "Problems kept aside from training", ("validations",), "grpo --eval-every", tested),
    ("reflected", "Reflections, before and after", ("evaluations",), "eval", reflected),
    ("why_failed", "Why tries failed", ("evaluations",), "eval", why_failed),
    ("forgetting", "Forgetting", ("forgetting",), "forgetting", forgetting),
    ("mined", "What was mined", ("attempts",), "mine-failures", mined),
    ("repaired", "Retries of mined failures", ("reflections",), "reflect", repaired),
    ("gallery", "Stories", ("evaluations", "rollouts", "reflections"), "eval", gallery),
]

"""rrr report: the numbers of rrr eval, on a page that loads nothing, runs nothing, and is the same every time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from rrr_cli.records import Attempt, Evaluation, Forgetting, Message, Problem, Rollout, TrainStep, content_id
from rrr_cli.stages.forgetting import summarise as forgetting_summary
from rrr_cli.stages.summary import summarise
from rrr_cli.store.artifacts import Writer, part_paths
from rrr_cli.store.database import answer, connect
from rrr_cli.text import UNSAFE

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"
HOSTILE = (
    "<script>alert(1)</script>", "</style><style>@import url(http://evil.example/x.css);", "\x1b[31m\u202eevil",
    '"><img src="http://evil.example/x.png" onerror="alert(1)">', r"$\frac{x$", "{{ 7 * 7 }}", "]]><!-- [/INST]",
)
WORDS = ["try", "the", "sum", "of", "two", "numbers", "then", "take", "away", "one", "more"]


class Page(HTMLParser):
    """What a browser would act on: the tags, the attributes, the style sheets, and the SQL that is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.styles, self.sql, self.marked, self.shown = "", [], [], ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "code" and dict(attrs).get("class") == "sql":
            self.sql.append("")
        if tag == "mark":
            self.marked.append("")
        if tag == "td":
            self.shown += " "
        self._open.append("sql" if dict(attrs).get("class") == "sql" else tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "style":
            self.styles += data
            return
        self.shown += data
        if inside in ("sql", "mark"):
            (self.sql if inside == "sql" else self.marked)[-1] += data


def row(record: type, **values: Any) -> Any:
    """A record; the fields that a test doesn't give are filled in by type."""
    plain: dict[str, Any] = {"str": "x", "int": 1, "float": 1.0, "bool": False, "list[Message]": []}
    return record(**{f.name: plain.get(str(f.type)) for f in fields(record)} | values)


def store(run: Path, table: str, stage: str, rows: list[Any], **config: Any) -> None:
    with Writer(run, table, stage, config, seed=0) as writer:
        writer.append(rows)


def evaluations(names: tuple[str, ...], n: int = 60, extra: str = "") -> list[Evaluation]:
    """Rows as `rrr eval` writes them: every model at the same problems, at the first model's failures, and its own."""
    draw, rows, failed = random.Random(1), [], {}

    def text() -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(12))) + extra

    for skill, name in enumerate(names, 2):
        for i in range(n):
            problem, passed = content_id("p", i), draw.random() < 0.15 * skill
            values: dict[str, Any] = {
                "evaluation_id": content_id(name, i), "problem_id": problem, "task": "sums", "model": name,
                "difficulty": ("easy", "hard")[i % 2] + extra, "first": text(), "first_success": passed,
                "first_error": None if passed else draw.choice(["no_answer", "wrong_value"]) + extra, "seed": 7,
            }
            failed.setdefault(problem, None if passed else values["first"])
            for arm in ("second", "blind", "plain") if not passed else ():
                values |= {arm: text(), f"{arm}_success": draw.random() < 0.2 * skill}
            if not passed:
                values |= {"reflection": text(), "reflection_tokens": draw.randrange(40), "solves": False}
                values["second_error"] = None if values["second_success"] else "wrong_value" + extra
            if failed[problem] is not None:
                values |= {"shared_attempt": failed[problem], "shared_reflection": text(), "shared_retry": text(),
                           "shared_success": draw.random() < 0.2 * skill}
            rows.append(row(Evaluation, **values))
    return rows


def steps(n: int = 3, **values: Any) -> list[TrainStep]:
    return [row(TrainStep, step=i, reward_mean=0.2 * i, kl=0.01 * i, **values) for i in range(1, n + 1)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with three models' evaluations at two levels, and a training."""
    store(tmp_path / "run", "evaluations", "eval", evaluations(("base", "trained", "bigger")), reflection_tokens=99)
    store(tmp_path / "run", "steps", "grpo", steps(reflection_length=20.0, retry_length=30.0))
    return tmp_path / "run"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A run in which every text that comes from outside is an attack."""
    folder, extra = tmp_path / "hostile", " ".join(HOSTILE)
    store(folder, "evaluations", "eval", evaluations(("base" + extra, "trained" + extra), 20, extra), task=extra)
    store(folder, "attempts", "mine-failures", [row(
        Attempt, attempt_id="a", phase="first", transcript=[Message("assistant", extra)], task=extra, model=extra,
        difficulty=extra, error_type=extra, finish_reason="length")], task=extra)
    store(folder, "steps", "grpo", steps())
    return folder


def rounded(value: Any) -> Any:
    """Floats to 12 digits: a mean summed in another order differs in the last."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def report(rrr: Any, *arguments: object) -> tuple[dict[str, Any], str]:
    """The figures and the page."""
    result = rrr("report", *arguments, "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    return figures, Path(figures["report"]).read_text()


def test_the_report_has_the_numbers_of_eval(rrr, tmp_path, random_model):
    run = tmp_path / "run"
    flags = ["--run", run, "--task", PARITY, "--max-tokens", 8, "--reflection-tokens", 10, "--temperature", 0.9]
    result = rrr("eval", *flags, "--model", f"base={random_model}", "--model", f"again={random_model}", "--json")
    assert result.code == 0, result.err
    figures, _ = report(rrr, run, "-o", tmp_path / "r.html")
    reported = figures["runs"][0]
    expected = json.loads(result.out)
    for key in ("models", "comparisons"):
        assert rounded(reported[key]) == rounded(expected[key])


def test_the_page_shows_every_models_numbers(rrr, run, tmp_path):
    names = ("base", "trained", "bigger")
    expected = summarise(evaluations(names), names)
    figures, text = report(rrr, run, "-o", tmp_path / "r.html")
    reported = figures["runs"][0]
    assert rounded({key: reported[key] for key in ("models", "comparisons")}) == rounded(expected)
    assert expected["models"][0]["by_difficulty"].keys() == {"easy", "hard"}
    shown = Page(text).shown
    for model in expected["models"]:
        for measure in ("first_try", "second_try", "blind_second_try"):
            rate = {key: f"{100 * value:.1f}" for key, value in model[measure].items()}
            assert f"{rate['value']}{rate['low']}–{rate['high']}" in shown
    change = next(c for c in reported["verdicts"][0]["changes"] if c["measure"] == "second_try")
    gain = expected["models"][1]["second_try"]["value"] - expected["models"][0]["second_try"]["value"]
    assert change["difference"]["value"] == pytest.approx(gain)
    assert change["difference"]["low"] < gain < change["difference"]["high"]
    assert reported["verdicts"][0]["sentence"] in shown
    assert f"won {change['won']}, lost {change['lost']}, p = {change['p']:.2g}" in shown


def test_the_pages_sql_gives_its_numbers(rrr, run, tmp_path):
    figures, text = report(rrr, run, "-o", tmp_path / "r.html")
    statements = list(dict.fromkeys(Page(text).sql))
    assert len(statements) >= 8
    results = [answer(connect([run]), sql).read_all().to_pylist() for sql in statements]
    rates = next(sql for sql in statements if "group by model order by model" in sql and "blind_second_try," in sql)
    pasted = rrr("sql", "--run", run, "--format", "jsonl", rates)
    assert pasted.code == 0, pasted.err
    counts = {entry["model"]: entry for entry in map(json.loads, pasted.out.splitlines())}
    for model in figures["runs"][0]["models"]:
        for measure in ("first_try", "second_try", "blind_second_try", "retry_without_reflection"):
            assert counts[model["name"]][measure] / counts[model["name"]]["n"] == model[measure]["value"]
    pairs = next(rows for rows in results if rows and rows[0].keys() == {"a", "b", "measure", "n", "won", "lost"})
    by_pair = {(r["a"], r["b"], r["measure"]): (r["won"], r["lost"]) for r in pairs}
    for c in figures["runs"][0]["comparisons"]:
        if c["a"] != c["b"]:
            assert by_pair[c["a"], c["b"], c["measure"]] == (c["won"], c["lost"])


@pytest.mark.parametrize("which", ["run", "hostile"])
def test_the_page_loads_and_runs_nothing(rrr, request, tmp_path, which):
    _, text = report(rrr, request.getfixturevalue(which), "-o", tmp_path / "r.html")
    page = Page(text)
    policy = next(a for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy
    allowed = {"html", "head", "meta", "title", "style", "body", "header", "article", "section", "footer", "nav", "h1",
               "h2", "h3", "p", "div", "span", "small", "mark", "code", "pre", "ul", "li", "a", "dl", "dt", "dd",
               "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "details", "summary",
               "svg", "defs", "g", "path", "use", "text", "rect", "clippath"}
    assert {tag for tag, _ in page.tags} <= allowed
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in ("src", "srcset", "action", "data", "poster", "background")
            if name.split(":")[-1] == "href":
                assert (value or "").startswith("#"), tag
            assert "url(" not in (value or "").replace("url(#", "")
    assert "url(" not in page.styles.replace("url(#", "")
    assert "@import" not in page.styles


def test_hostile_text_is_shown_as_text(rrr, hostile, tmp_path):
    figures, text = report(rrr, hostile, "-o", tmp_path / "r.html")
    assert not UNSAFE.search(text)
    assert "<script" not in text
    assert text.count("</style>") == text.count("<style") == Page(text).tags.count(("style", {})) + text.count(
        '<style type="text/css">')
    shown = Page(text).shown
    for attack in HOSTILE:
        assert UNSAFE.sub("", attack) in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert figures["runs"][0]["models"][0]["name"] == "base" + " ".join(HOSTILE)  # data is data


def test_the_same_run_gives_the_same_bytes(rrr, run, tmp_path):
    _, text = report(rrr, run, "-o", tmp_path / "a.html")
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 30\naxes.facecolor: black\n")
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "MATPLOTLIBRC": str(settings)}
    subprocess.run([sys.executable, "-m", "rrr_cli", "report", run, "-o", tmp_path / "b.html"], check=True,
                   env=environment, capture_output=True)
    assert (tmp_path / "b.html").read_text() == text


def test_a_report_says_what_is_missing(rrr, tmp_path):
    run = tmp_path / "run"
    store(run, "attempts", "mine-failures", [
        row(Attempt, attempt_id=f"a{i}", problem_id=f"p{i // 2}", phase="first", task="sums", difficulty="easy",
            success=i % 2 == 0, error_type=None if i % 2 == 0 else "wrong_value", finish_reason="stop")
        for i in range(10)])
    figures, text = report(rrr, run, "-o", tmp_path / "r.html")
    shown = " ".join(Page(text).shown.split())
    assert "No verdict: this run has no evaluations." in shown
    assert "sums easy, x x 5 5 10 5" in shown
    assert "wrong_value 5" in shown
    assert any(why.startswith("Learning curves: the table steps doesn't exist; rrr grpo") for why in
               figures["runs"][0]["left_out"])
    assert figures["runs"][0]["models"] == []
    assert not [tag for tag, _ in Page(text).tags if tag == "svg"]


@pytest.mark.parametrize(("objective", "trained", "marked"), [
    ("reflection", 2, ["I forgot"]), ("answer", 3, ["2 plus 2"]), ("reflection+answer", 5, ["I forgot", "2 plus 2"]),
])
def test_examples_highlight_the_trained_texts(rrr, tmp_path, objective, trained, marked):
    run, answers = tmp_path / "run", objective == "answer"
    store(run, "problems", "mine-failures", [row(Problem, problem_id="p", prompt=[Message("user", "what is 4")])])
    store(run, "attempts", "mine-failures", [row(
        Attempt, attempt_id="a", problem_id="p", phase="first", transcript=[Message("assistant", "5")])])
    store(run, "steps", "grpo", steps(2, objective=objective))
    store(run, "rollouts", "grpo", [row(
        Rollout, step=2, problem_id="p", attempt_id="a", success=True, reflection=None if answers else "I forgot",
        retry=None if answers else "2 plus 2", answer="2 plus 2" if answers else None,
        reflection_tokens=0 if answers else 2, retry_tokens=0 if answers else 3, trained_tokens=trained)])
    page = Page(report(rrr, run, "-o", tmp_path / "r.html")[1])
    assert page.marked[0] == "Highlighted"
    assert page.marked[1:] == marked
    assert "what is 4" in page.shown


def test_examples_show_a_built_in_tasks_problem(rrr, tmp_path):
    from rrr_cli.tasks import load_task

    problems = list(load_task("countdown").problems("test"))[:30]
    rows = [
        row(Evaluation, **asdict(old) | {"problem_id": problems[i % 30].problem_id})
        for i, old in enumerate(evaluations(("base", "trained"), 30))
    ]
    store(tmp_path / "run", "evaluations", "eval", rows, task="countdown", level="easy", data=None)
    page = Page(report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")[1])
    listed = [p for p in problems if p.problem_id in page.shown]
    assert listed
    assert all(p.prompt[-1].content in page.shown for p in listed)


def test_warnings_name_seed_limit_answers_and_truncation(rrr, tmp_path, monkeypatch):
    run = tmp_path / "run"
    rows = [row(Evaluation, **asdict(r) | {"solves": r.reflection is not None and r.problem_id < "8"})
            for r in evaluations(("base", "trained"))]
    monkeypatch.setattr(sys, "argv", ["rrr", "eval", "--limit=60"])
    limit = max(r.reflection_tokens or 0 for r in rows)
    store(run, "evaluations", "eval", rows[:-3], reflection_tokens=limit)
    warnings = "\n".join(report(rrr, run, "-o", tmp_path / "r.html")[0]["runs"][0]["warnings"])
    solving = sum(bool(r.solves) for r in rows if r.model == "base")
    assert "1 seed: eval with seed 0" in warnings
    assert "limit: eval used the first problems only" in warnings
    assert f"answers: {solving} of " in warnings
    assert f"are {limit} tokens long, the limit" in warnings
    assert "unequal numbers of problems (base 60, trained 57)" in warnings


def test_forgetting_has_the_numbers_of_its_command(rrr, tmp_path):
    draw = random.Random(2)
    rows = [
        row(Forgetting, forgetting_id=f"{m}{b}{i}", benchmark=b, item_id=f"{b}{i}", model=m,
            score=float(draw.random() < r), prompt_cut=b == "math" and i < 3)
        for b in ("gsm8k", "math") for m, r in (("base", 0.6), ("trained", 0.5)) for i in range(40)
    ]
    store(tmp_path / "run", "forgetting", "forgetting", rows)
    expected = forgetting_summary(rows, ["gsm8k", "math"], ["base", "trained"])
    figures, text = report(rrr, tmp_path / "run", "-o", tmp_path / "r.html")
    assert "truncation: 3 of 40 (7.5 %) prompts of math" in " ".join(figures["runs"][0]["warnings"])
    shown = Page(text).shown
    for c in expected["comparisons"]:
        assert f"{c['won']}/{c['lost']}p = {c['p']:.2g}" in shown
        assert f"{100 * c['change']['value']:+.1f}".replace("-", "−") in shown
    for benchmark in expected["benchmarks"]:
        assert f"{100 * benchmark['accuracy']['base']['value']:.1f}" in shown


def test_several_runs_share_one_page(rrr, run, tmp_path):
    other = tmp_path / "other"
    store(other, "evaluations", "eval", evaluations(("base", "trained"), 30))
    figures, text = report(rrr, run, other, run, "-o", tmp_path / "r.html")
    assert [entry["run"] for entry in figures["runs"]] == ["run", "other"]
    page = Page(text)
    assert [a["id"] for tag, a in page.tags if tag == "article"] == ["run-1", "run-2"]
    assert "2 runs" in page.shown
    for entry in figures["runs"]:
        assert page.shown.count(entry["verdicts"][0]["sentence"]) == 1


def test_bad_runs_outputs_and_extras_are_refused(rrr, run, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        refused = rrr("report", folder, "-o", tmp_path / "r.html")
        assert refused.code == 3
        assert "rrr mine-failures --run" in refused.err
    assert rrr("report", run, "-o", tmp_path / "no" / "r.html").code == 3
    assert not (tmp_path / "r.html").exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = rrr("report", run, "-o", tmp_path / "r.html")
    assert missing.code == 4
    assert "pip install 'rrr_cli[report]'" in missing.err


def test_a_damaged_part_leaves_the_old_report(rrr, run, tmp_path):
    output = tmp_path / "r.html"
    output.write_text("the old one")
    part = part_paths(run, "steps")[0]
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    result = rrr("report", run, "-o", output)
    assert result.code == 3
    assert str(part) in result.err
    assert "Traceback" not in result.err
    assert output.read_text() == "the old one"

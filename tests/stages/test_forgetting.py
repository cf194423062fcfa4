"""`rrr forgetting` through the command line, over generated rows with the columns of the real files.

The models have random weights: tested are which items a model is asked, and what is written, reused and refused.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lm_eval", reason="needs pip install 'rrr_cli[eval]'")

from conftest import make_random_model

from rrr_cli.benchmarks import SUBJECTS
from rrr_cli.benchmarks.harness import spread
from rrr_cli.metrics import mcnemar
from rrr_cli.records import Forgetting
from rrr_cli.stages.forgetting import summarise
from rrr_cli.store.artifacts import part_paths, provenance, read

MMLU = [
    {"question_id": i, "question": f"numbers {i}", "options": [str(i), "yes", "no"], "answer": "ABC"[i % 3],
     "answer_index": i % 3, "category": category, "src": "synthetic"}
    for i, category in enumerate(["law", *(subject.replace("_", " ") for subject in SUBJECTS)])
]
FILES = {
    "mmlu_pro_test": [*MMLU, {**MMLU[0], "question_id": 3983, "answer": "C"}],  # its answer isn't its answer_index
    "gsm8k_test": [{"question": f"{i} + {i}", "answer": f"{i} + {i} = {2 * i}\n#### {2 * i}"} for i in range(4)],
    "gsm8k_train": [{"question": f"{i} - 1", "answer": f"{i} - 1 = {i - 1}\n#### {i - 1}"} for i in range(1, 12)],
    "hellaswag_val": [
        {"ind": i, "ctx": f"numbers : {i} ( {i}", "label": i % 4, "endings": [f"{j} = {i} )" for j in range(4)]}
        for i in range(8)
    ],
    "math500": [
        {"problem": f"{i} * 2", "answer": str(2 * i), "solution": f"It is $\\boxed{{{2 * i}}}$.", "subject": "Algebra",
         "level": 1, "unique_id": f"test/{i}"}
        for i in range(3)
    ],
}
COUNTS = {"mmlu_pro": 15, "gsm8k": 4, "hellaswag": 8, "math": 3}


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in FILES.items():
        write(folder, name, rows)
    return folder


@pytest.fixture
def base(tmp_path: Path, data: Path, random_model: Path) -> list[object]:
    """Flags of every command here: a run of its own, the rows, a first model, and short answers."""
    return ["forgetting", "--run", tmp_path / "run", "--data-dir", data, "--model", f"base={random_model}",
            "--max-tokens", 8]


def rows_of(run: Path) -> list[Forgetting]:
    return list(read(run, "forgetting"))


def test_every_model_is_asked_the_same_items(rrr, base, random_adapter, tmp_path):
    result = rrr(*base, "--model", f"trained={random_adapter}", "--json")
    assert result.code == 0, result.err
    summary, rows = json.loads(result.out), rows_of(tmp_path / "run")
    assert {b["benchmark"]: b["n"] for b in summary["benchmarks"]} == COUNTS
    for name, count in COUNTS.items():
        asked = {m: [r.item_id for r in rows if r.benchmark == name and r.model == m] for m in ("base", "trained")}
        assert asked["base"] == asked["trained"]
        assert len(set(asked["base"])) == count  # the row whose answer contradicts itself is left out
    assert len({r.forgetting_id for r in rows}) == len(rows) == 2 * sum(COUNTS.values())
    assert {r.task for r in rows if r.benchmark == "mmlu_pro"} == {f"mmlu_pro_{s}" for s in SUBJECTS}
    assert {b["benchmark"]: b["shots"] for b in summary["benchmarks"]} == {
        "mmlu_pro": 0, "gsm8k": 5, "hellaswag": 0, "math": 4}
    assert all((r.text is None) == (r.benchmark == "hellaswag") for r in rows)
    assert {r.prompt_cut for r in rows if r.benchmark == "math"} == {True}  # the examples exceed 256 tokens
    assert {r.prompt_cut for r in rows if r.benchmark == "gsm8k"} == {False}
    assert "lost their beginning" in result.err
    written = {m: [r.text for r in rows if r.model == m] for m in ("base", "trained")}
    assert written["base"] != written["trained"]  # the adapter was applied


def test_the_summary_follows_the_rows(rrr, base, random_adapter, tmp_path):
    result = rrr(*base, "--model", f"trained={random_adapter}", "--benchmark", "hellaswag", "--json")
    rows = rows_of(tmp_path / "run")
    a, b = ([bool(r.score) for r in rows if r.model == m] for m in ("base", "trained"))
    summary = json.loads(result.out)
    assert summary["benchmarks"][0]["accuracy"]["base"]["value"] == pytest.approx(sum(a) / len(a))
    compared = summary["comparisons"][0]
    assert compared["change"]["value"] == pytest.approx((sum(b) - sum(a)) / len(a))
    assert compared["change"]["low"] <= compared["change"]["value"] <= compared["change"]["high"]
    assert (compared["won"], compared["lost"], compared["p"]) == tuple(vars(mcnemar(a, b)).values())
    csv = rrr("sql", "--run", tmp_path / "run", "--format", "csv",
              "select count(*) from forgotten where knew = 'base'").out.split()
    assert int(csv[1]) == sum(x and not y for x, y in zip(a, b, strict=True))


@pytest.fixture(scope="module")
def knowing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of one architecture with other weights, which rank HellaSwag's endings differently."""
    import torch
    from transformers import AutoModelForCausalLM

    folders = {}
    for name, seed in (("a", 3), ("b", 4)):
        folder = tmp_path_factory.mktemp(name)
        make_random_model(folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.3)
        model.save_pretrained(folder)
        folders[name] = folder
    return folders


def test_max_drop_names_the_benchmark(rrr, base, random_model, knowing, tmp_path, data):
    models = {"one": random_model, **knowing}
    flags = [f for n, p in models.items() for f in ("--model", f"{n}={p}")]
    run = tmp_path / "scores"
    assert rrr(*base[:1], "--run", run, "--data-dir", data, *flags, "--benchmark", "hellaswag").code == 0
    scores = {n: sum(r.score for r in rows_of(run) if r.model == n) for n in models}
    worst, best = min(scores, key=scores.__getitem__), max(scores, key=scores.__getitem__)
    assert scores[worst] < scores[best]  # or these models can't show a gate
    drop = 100 * (scores[best] - scores[worst]) / COUNTS["hellaswag"]

    def gated(points: float, first: str, second: str) -> tuple[int, str]:
        result = rrr("forgetting", "--run", tmp_path / f"{first}-{second}", "--data-dir", data, "--benchmark",
                     "hellaswag", "--model", f"{first}={models[first]}", "--model", f"{second}={models[second]}",
                     "--max-drop", points)
        return result.code, result.err

    code, message = gated(drop - 1, best, worst)
    assert code == 5
    assert f"hellaswag by {drop:.1f} ({worst}, n = 8)" in message
    assert gated(drop, best, worst)[0] == 0
    assert gated(0, worst, best)[0] == 0
    assert rrr(*base, "--max-drop", 1).code == 2  # nothing to compare with


def test_a_rerun_writes_only_missing_parts(rrr, base, random_adapter, tmp_path):
    run = tmp_path / "run"
    flags = [*base, "--benchmark", "hellaswag", "--benchmark", "gsm8k"]
    assert rrr(*flags).code == 0
    before = {p: p.read_bytes() for p in part_paths(run, "forgetting")}
    assert len(before) == 2  # a benchmark of one model is one part
    assert rrr(*flags).code == 0
    assert {p: p.read_bytes() for p in part_paths(run, "forgetting")} == before
    assert rrr(*flags, "--model", f"trained={random_adapter}").code == 0
    after = {p: p.read_bytes() for p in part_paths(run, "forgetting")}
    assert len(after) == 4
    assert before.items() <= after.items()


def test_one_model_under_two_names_answers_equally(rrr, base, random_model, tmp_path):
    assert rrr(*base, "--model", f"again={random_model}", "--benchmark", "gsm8k", "--benchmark", "math").code == 0
    rows = rows_of(tmp_path / "run")
    once, again = ([(r.item_id, r.text, r.score) for r in rows if r.model == m] for m in ("base", "again"))
    assert once == again


def test_a_lost_part_is_rewritten_equal(rrr, base, tmp_path):
    flags = [*base, "--benchmark", "gsm8k", "--benchmark", "hellaswag"]
    assert rrr(*flags).code == 0
    whole = rows_of(tmp_path / "run")
    for lost in (0, 1):
        parts = part_paths(tmp_path / "run", "forgetting")
        parts[lost].unlink()
        assert rrr(*flags).code == 0
        key = lambda row: row.forgetting_id  # noqa: E731
        assert sorted(rows_of(tmp_path / "run"), key=key) == sorted(whole, key=key)


def test_other_weights_data_or_limit_are_refused(
    rrr, base, random_model, random_adapter, data, tmp_path
):
    flags = [*base, "--benchmark", "gsm8k"]
    assert rrr(*flags).code == 0
    rows = rows_of(tmp_path / "run")
    flags[flags.index(f"base={random_model}")] = f"base={random_adapter}"
    refused = rrr(*flags)
    assert refused.code == 3
    assert "tested as base had other weights" in refused.err
    limited = rrr(*base, "--benchmark", "gsm8k", "--limit", 2)
    assert limited.code == 3
    assert "limit was null, now 2" in limited.err
    write(data, "gsm8k_train", FILES["gsm8k_train"][1:])  # another pool of worked examples: other prompts
    changed = rrr(*base, "--benchmark", "gsm8k")
    assert changed.code == 3
    assert "gsm8k had other data" in changed.err
    assert rows_of(tmp_path / "run") == rows
    assert rrr(*base, "--benchmark", "gsm8k", "--overwrite").code == 0


def test_a_limit_selects_the_first_items(rrr, base, data, tmp_path):
    assert rrr(*base, "--benchmark", "gsm8k", "--benchmark", "mmlu_pro").code == 0
    whole = {r.item_id: (r.text, r.score) for r in rows_of(tmp_path / "run")}
    short = tmp_path / "short"
    base[base.index(tmp_path / "run")] = short
    result = rrr(*base, "--benchmark", "gsm8k", "--benchmark", "mmlu_pro", "--limit", 2)
    assert result.code == 0, result.err
    assert "--limit 2: a part of each benchmark" in result.err
    rows = rows_of(short)
    assert [r.item_index for r in rows if r.benchmark == "gsm8k"] == [0, 1]
    assert {r.item_limit for r in rows} == {2}
    assert {r.item_id: (r.text, r.score) for r in rows}.items() <= whole.items()


@pytest.mark.parametrize("limit", [1, 5, 14, 40, 300])
def test_a_higher_limit_keeps_a_lower_ones_items(limit):
    sizes = [7, 30, 2, *([20] * (len(SUBJECTS) - 3))]
    lower, higher = spread(limit, sizes), spread(limit + 1, sizes)
    assert all(x <= y for x, y in zip(lower, higher, strict=True))
    assert sum(higher) <= limit + 1
    assert spread(None, sizes) == sizes


def test_bad_local_rows_are_one_line(rrr, base, data):
    for name, row, message in (
        ("hellaswag_val", {"ctx": "a", "endings": ["b", "c"]}, "row 9: label is missing"),
        ("hellaswag_val", {"ctx": "a", "label": 0, "endings": ["b"], "activity_label": "Jump"}, "activity's label"),
        ("gsm8k_train", {"question": "1", "answer": 2}, "answer is int"),
        ("mmlu_pro_test", {**MMLU[0], "answer_index": 12}, "answer_index 12"),
        ("math500", [], "found [], wanted an object with"),
    ):
        write(data, name, [*FILES[name], row])
        result = rrr(*base)
        assert result.code == 3, (name, row)
        assert message in result.err
        assert len(result.err.strip().splitlines()) == 1
        write(data, name, FILES[name])
    write(data, "mmlu_pro_test", MMLU[:-1])  # no psychology
    assert "one of its tasks has no rows" in rrr(*base, "--benchmark", "mmlu_pro").err
    (data / "math500.jsonl.gz").write_bytes(b"not gzip")
    assert "math500.jsonl.gz, row 1: not JSON" in rrr(*base, "--benchmark", "math").err
    (data / "math500.jsonl.gz").unlink()
    missing = rrr(*base, "--benchmark", "math")
    assert missing.code == 3
    assert "has no math500.jsonl.gz" in missing.err
    shutil.copy(data / "gsm8k_test.jsonl.gz", data / "math500.jsonl.gz")
    assert "problem is missing" in rrr(*base, "--benchmark", "math").err


def test_short_contexts_and_missing_templates_are_refused(
    rrr, base, random_model, data, tmp_path
):
    refused = rrr("forgetting", *base[1:-2], "--benchmark", "mmlu_pro")  # 2048 tokens by lm-eval's task
    assert refused.code == 3
    assert "a context of 256 tokens" in refused.err
    assert "--max-tokens" in refused.err
    plain = tmp_path / "plain"
    shutil.copytree(random_model, plain)
    (plain / "chat_template.jinja").unlink()
    flags = ["forgetting", "--run", tmp_path / "chat", "--data-dir", data, "--benchmark", "gsm8k", "--max-tokens", 8,
             "--apply-chat-template"]
    refused = rrr(*flags, "--model", f"base={plain}")
    assert refused.code == 3
    assert "no chat template" in refused.err
    result = rrr(*flags, "--model", f"base={random_model}")
    assert result.code == 0, result.err
    assert "chat format" in result.err


def test_a_chat_template_that_prints_the_date_prints_the_runs(rrr, random_model, data, tmp_path):
    dated = shutil.copytree(random_model, tmp_path / "dated")
    (dated / "chat_template.jinja").write_text(
        "{% if strftime_now('%Y') != '1999' %}{{ raise_exception('today') }}{% endif %}{{ messages[0].content }}")
    flags = ["forgetting", "--run", tmp_path / "run", "--data-dir", data, "--benchmark", "gsm8k", "--max-tokens", 8,
             "--limit", 1, "--model", f"base={dated}"]
    date = ["--template-args", '{"date": "1999-05-01"}']
    assert rrr(*flags, *date).code == 2  # no chats
    result = rrr(*flags, "--apply-chat-template", *date)
    assert result.code == 0, result.err
    assert rrr(*flags, "--apply-chat-template").code == 0  # the date that was recorded
    assert [made["config"]["template_args"] for made in provenance(tmp_path / "run", "forgetting")] == [date[1]]


def test_missing_models_or_benchmarks_say_what_to_type(rrr, tmp_path):
    for flags, message in (
        ([], "--model base=MODEL --model trained=MODEL"), (["--model", "tiny"], "NAME=MODEL"),
        (["--model", "base=tiny", "--benchmark", "chess"], "mmlu_pro, gsm8k, hellaswag, math"),
    ):
        result = rrr("forgetting", "--run", tmp_path / "none", *flags)
        assert result.code == 2
        assert message in result.err
    dry = rrr("forgetting", "--model", "base=tiny", "--benchmark", "hellaswag", "--limit", 100, "--dry-run")
    assert dry.code == 0
    assert json.loads(dry.out) == {"benchmarks": ["hellaswag"], "limit": 100, "models": {"base": "tiny"}}


def test_without_models_it_compares_base_and_policy(rrr, random_model, tmp_path):
    run = tmp_path / "run"
    assert rrr("mine-failures", "--run", run, "--model", random_model, "--limit", 2, "--max-tokens", 4).code == 0
    assert rrr("forgetting", "--run", run, "--dry-run").code == 2  # no trained model yet
    shutil.copytree(random_model, run / "models" / "policy")
    dry = rrr("forgetting", "--run", run, "--dry-run")
    assert dry.code == 0, dry.err
    assert json.loads(dry.out)["models"] == {"base": str(random_model), "trained": str(run / "models" / "policy")}


def test_without_lm_eval_says_what_to_install(rrr, base, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "lm_eval" else find(name))
    result = rrr(*base)
    assert result.code == 4
    assert "pip install 'rrr_cli[eval]'" in result.err


def row(benchmark: str, model: str, i: int, score: float) -> Forgetting:
    return Forgetting(
        f"{benchmark}{model}{i}", benchmark, benchmark, str(i), i, model, model, model, "acc", score, None, False, 0,
        False, None, "synthetic", "f")


@pytest.mark.parametrize(("right", "expected"), [(1000, "yes"), (900, "no"), (992, "open")])
def test_under_one_point_follows_the_interval(right, expected):
    rows = [row("gsm8k", "base", i, 1.0) for i in range(1000)]
    rows += [row("gsm8k", "trained", i, float(i < right)) for i in range(1000)]
    compared = summarise(rows, ["gsm8k"], ["base", "trained"])["comparisons"][0]
    assert compared["change"]["value"] == pytest.approx(right / 1000 - 1)
    assert compared["under_one_point"] == expected

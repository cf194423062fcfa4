"""mine-failures, reflect and eval through the command line: what is written, resumed, refused and printed.

The model has random weights and half of its texts pass the task, so that every branch runs.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")

from parity_task import Parity

from rrr_cli.store.artifacts import exists, part_paths, read

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"


@pytest.fixture
def base(tmp_path: Path, random_model: Path) -> list[object]:
    """Flags of every command here: a run of its own, the task, and short texts."""
    return ["--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8]


def table(run: Path, name: str) -> list[dict[str, object]]:
    return [vars(row) for row in read(run, name)]


@pytest.fixture
def mined(rrr, base, random_model, tmp_path) -> Path:
    result = rrr("mine-failures", *base, "--model", random_model, "--samples", 4)
    assert result.code == 0, result.err
    return tmp_path / "run"


def test_mining_keeps_every_attempt(rrr, base, random_model, tmp_path):
    result = rrr("mine-failures", *base, "--model", random_model, "--samples", 3, "--stop-at-failure", 0)
    assert result.code == 0
    assert result.out.strip() == str(tmp_path / "run")
    attempts = table(tmp_path / "run", "attempts")
    assert len(attempts) == 40 * 3
    assert len({a["attempt_id"] for a in attempts}) == 40 * 3
    assert {a["sample_index"] for a in attempts} == {0, 1, 2}
    assert {a["success"] for a in attempts} == {True, False}


@pytest.mark.parametrize("stop", [1, 2])
def test_stop_at_failure_samples_a_prefix(
    rrr, base, random_model, tmp_path, stop
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    arguments = [*base[2:], "--model", random_model, "--samples", 8]
    assert rrr("mine-failures", "--run", whole, *arguments, "--stop-at-failure", 0).code == 0
    assert rrr("mine-failures", "--run", stopped, *arguments, "--stop-at-failure", stop).code == 0
    key = ("problem_id", "sample_index")
    by_key = {tuple(a[k] for k in key): (a["transcript"], a["success"]) for a in table(whole, "attempts")}
    seen: dict[object, list[bool]] = {}
    for a in table(stopped, "attempts"):
        assert by_key[tuple(a[k] for k in key)] == (a["transcript"], a["success"])
        seen.setdefault(a["problem_id"], []).append(a["success"])  # type: ignore[arg-type]
    for outcomes in seen.values():  # the sampling of a problem ends at its Nth failure, or at --samples
        assert (outcomes.count(False) == stop and not outcomes[-1]) or len(outcomes) == 8
    failed = {p for (p, _), (_, success) in by_key.items() if not success}
    assert {p for p, outcomes in seen.items() if False in outcomes} == failed
    assert len(table(stopped, "attempts")) < len(by_key)


def test_batch_size_and_limit_change_no_sample(rrr, base, random_model, tmp_path):
    texts = []
    for run, flags in (("a", ["--batch-size", 3]), ("b", ["--batch-size", 64, "--limit", 20, "--part", 7])):
        arguments = ["--run", tmp_path / run, *base[2:], "--model", random_model, "--samples", 2, *flags]
        assert rrr("mine-failures", *arguments).code == 0
        texts.append({a["attempt_id"]: a["transcript"] for a in table(tmp_path / run, "attempts")})
    assert 0 < len(texts[1]) < len(texts[0])
    assert texts[1].items() <= texts[0].items()


def test_a_higher_limit_resumes(rrr, base, random_model, tmp_path):
    run = tmp_path / "run"
    arguments = [*base, "--model", random_model, "--samples", 2]
    rrr("mine-failures", *arguments, "--limit", 10)
    before = {p: p.read_bytes() for p in part_paths(run, "attempts")}
    assert rrr("mine-failures", *arguments, "--limit", 10).code == 0
    assert {p: p.read_bytes() for p in part_paths(run, "attempts")} == before
    assert rrr("mine-failures", *arguments).code == 0
    assert len({a["problem_id"] for a in table(run, "attempts")}) == 40
    assert len(table(run, "problems")) == 40
    assert all(p.read_bytes() == content for p, content in before.items())


def test_another_configuration_needs_overwrite(rrr, base, random_model, mined):
    refused = rrr("mine-failures", *base, "--model", random_model, "--samples", 4, "--temperature", 0.5)
    assert refused.code == 3
    assert "temperature was 1.0, now 0.5" in refused.err
    assert "--overwrite" in refused.err
    assert len(refused.err.strip().splitlines()) == 1
    again = rrr("mine-failures", *base, "--model", random_model, "--samples", 4, "--temperature", 0.5, "--overwrite")
    assert again.code == 0, again.err
    assert {a["temperature"] for a in table(mined, "attempts")} == {0.5}


def test_reflect_writes_reflections_and_retries(rrr, base, random_model, mined):
    arguments = [*base, "--model", random_model, "--reflections", 2, "--retries", 3, "--reflection-tokens", 10]
    result = rrr("reflect", *arguments, "--json")
    assert result.code == 0, result.err
    summary = json.loads(result.out)
    failures = {a["attempt_id"] for a in table(mined, "attempts") if a["phase"] == "first" and not a["success"]}
    reflections, retries = table(mined, "reflections"), [a for a in table(mined, "attempts") if a["phase"] == "retry"]
    assert {r["attempt_id"] for r in reflections} == failures
    assert len(reflections) == 2 * len(failures) == summary["reflections"]
    assert len(retries) == 6 * len(failures) == summary["retries"]
    of_reflection = {r["reflection_id"]: r["attempt_id"] for r in reflections}
    assert all(of_reflection[a["reflection_id"]] == a["parent_id"] for a in retries)
    assert sum(bool(a["success"]) for a in retries) == summary["retries_passed"]
    assert rrr("reflect", *arguments).code == 0
    assert len(table(mined, "reflections")) == len(reflections)  # a rerun writes nothing


def test_a_kill_between_reflections_and_retries_resumes(rrr, base, random_model, mined):
    arguments = [*base, "--model", random_model, "--reflection-tokens", 10]
    assert rrr("reflect", *arguments).code == 0
    whole = {a["attempt_id"] for a in table(mined, "attempts")}
    reflections = table(mined, "reflections")
    part_paths(mined, "attempts")[-1].unlink()  # as if killed between the two parts
    assert rrr("reflect", *arguments).code == 0
    assert {a["attempt_id"] for a in table(mined, "attempts")} == whole
    assert table(mined, "reflections") == reflections


def test_retry_context_shortens_the_prompt(rrr, base, random_model, mined, tmp_path):
    lengths = {}
    for context in ("full", "reflection"):
        run = tmp_path / context
        arguments = ["--run", run, "--input", mined, *base[2:], "--model", random_model, "--reflection-tokens", 10]
        assert rrr("reflect", *arguments, "--retry-context", context).code == 0
        lengths[context] = sum(a["prompt_tokens"] for a in table(run, "attempts"))  # type: ignore[misc]
    assert lengths["reflection"] < lengths["full"]
    assert rrr("reflect", *base, "--retry-context", "none").code == 2


def test_reflect_without_attempts_says_what_to_type(rrr, base):
    result = rrr("reflect", *base)
    assert result.code == 3
    assert "rrr mine-failures --run" in result.err


@pytest.fixture
def evaluated(rrr, base, random_model, tmp_path) -> tuple[dict[str, object], Path]:
    arguments = [*base, "--model", f"base={random_model}", "--model", f"again={random_model}", "--temperature", 0.9]
    result = rrr("eval", *arguments, "--reflection-tokens", 10, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out), tmp_path / "run"


def test_eval_json_follows_the_rows(evaluated):
    result, run = evaluated
    rows = [r for r in table(run, "evaluations") if r["model"] == "base"]
    assert [m["name"] for m in result["models"]] == ["base", "again"]
    model = result["models"][0]
    assert model["n"] == len(rows) == 10
    first = [r["first_success"] for r in rows]
    assert model["first_try"]["value"] == pytest.approx(sum(first) / 10)
    columns = {"second_try": "second", "blind_second_try": "blind", "retry_without_reflection": "plain"}
    for measure, column in columns.items():
        passed = [r["first_success"] or r[f"{column}_success"] for r in rows]
        assert model[measure]["value"] == pytest.approx(sum(passed) / 10)  # type: ignore[arg-type]
        assert model[measure]["low"] <= model[measure]["value"] <= model[measure]["high"]
    shared = [r["shared_success"] for r in rows if not r["first_success"]]
    assert model["second_try_on_failures"]["value"] == pytest.approx(sum(shared) / len(shared))  # type: ignore[arg-type]
    assert {"a", "b", "measure", "won", "lost", "p"} == set(result["comparisons"][0])
    assert {r["temperature"] for r in rows} == {0.9}


def test_eval_counts_errors_and_reflections(evaluated):
    result, run = evaluated
    for model in result["models"]:
        rows = [r for r in table(run, "evaluations") if r["model"] == model["name"]]
        failed = [r for r in rows if not r["first_success"]]
        assert model["errors"]["first"] == {"odd": len(failed)}
        assert model["errors"]["second"] == Counter(r["second_error"] for r in failed if not r["second_success"])
        counted = model["reflections"]
        assert counted["n"] == len(failed)
        assert counted["mean_tokens"] == pytest.approx(sum(r["reflection_tokens"] for r in failed) / len(failed))
        assert 0 <= counted["repetition"] < 1


def test_eval_prints_the_papers_table(rrr, base, random_model, tmp_path):
    result = rrr("eval", *base, "--model", f"base={random_model}", "--model", f"again={random_model}", "--limit", 6)
    assert result.code == 0, result.err
    assert "6 held-out problems, temperature 1, 1 seed (0)" in " ".join(result.err.split())
    lines = [line.split() for line in result.err.splitlines()]
    rates = [line for line in lines if line[:1] == ["base"] and len(line) == 6]
    rows = table(tmp_path / "run", "evaluations")
    first = [r["first_success"] for r in rows if r["model"] == "base"]
    assert rates[0][1] == f"{100 * sum(first) / 6:.1f}"
    assert ["won/lost", *["0/0"] * 5] in lines  # the same model and seed twice
    assert any(line[:1] == ["odd"] and line[2:3] == ["→"] for line in lines)
    assert any(line[:2] == ["base", str(first.count(False))] and len(line) == 4 for line in lines)


def test_eval_models_share_the_failed_attempts(evaluated):
    _, run = evaluated
    rows = table(run, "evaluations")
    by_model = {m: {r["problem_id"]: r for r in rows if r["model"] == m} for m in ("base", "again")}
    assert any(r["first_success"] for r in by_model["base"].values())
    for problem_id, row in by_model["base"].items():
        other = by_model["again"][problem_id]
        assert other["shared_attempt"] == row["shared_attempt"] == (None if row["first_success"] else row["first"])
        assert (other["shared_success"] is None) == row["first_success"]
        assert (row["second"], row["shared_retry"]) == (row["shared_retry"], row["second"])
    # The same weights and seeds: the same first tries.
    assert [r["first"] for r in by_model["base"].values()] == [r["first"] for r in by_model["again"].values()]


def test_eval_uses_the_test_split_and_prints_sentences(rrr, base, random_model, tmp_path):
    arguments = [*base, "--model", f"base={random_model}", "--reflection-tokens", 10]
    result = rrr("eval", *arguments)
    assert result.code == 0
    rows = table(tmp_path / "run", "evaluations")
    assert {r["problem_id"] for r in rows} == {p.problem_id for p in Parity().problems("test")}
    printed = " ".join(result.err.split())
    assert "a second try after a reflection does NOT beat a blind resample" in printed
    assert "a second try after a reflection does NOT beat a retry without a reflection" in printed


def test_greedy_eval_has_no_blind_resample(rrr, base, random_model, tmp_path):
    model = f"base={random_model}"
    shown = rrr("eval", *base, "--model", model, "--temperature", 0)
    assert "at temperature 0 a blind resample is the first try again" in " ".join(shown.err.split())
    assert {(r["blind"], r["blind_success"]) for r in table(tmp_path / "run", "evaluations")} == {(None, None)}
    result = json.loads(rrr("eval", *base, "--model", model, "--temperature", 0, "--json").out)
    assert result["models"][0]["blind_second_try"] is None
    assert result["models"][0]["retry_without_reflection"] is not None
    assert [c["measure"] for c in result["comparisons"]] == ["second_try over retry_without_reflection"]
    pytest.importorskip("matplotlib")
    reported = json.loads(rrr("report", tmp_path / "run", "-o", tmp_path / "page.html", "--json").out)["runs"][0]
    for key in ("models", "comparisons"):
        assert reported[key] == result[key]


def test_fail_under_exits_5_after_printing(rrr, evaluated, base, random_model):
    arguments = [*base, "--model", f"base={random_model}", "--model", f"again={random_model}", "--temperature", 0.9]
    gated = rrr("eval", *arguments, "--reflection-tokens", 10, "--json", "--fail-under", "second_try=1.0")
    assert json.loads(gated.out) == evaluated[0]
    assert gated.code == (0 if evaluated[0]["models"][1]["second_try"]["value"] == 1.0 else 5)
    assert rrr("eval", *base, "--fail-under", "luck=0.5").code == 2


@pytest.mark.parametrize("models", [["tiny"], ["=tiny"], ["a=tiny", "a=tiny"]])
def test_eval_refuses_models_without_unique_names(rrr, base, models):
    flags = [flag for model in models for flag in ("--model", model)]
    assert rrr("eval", *base, *flags).code == 2


def test_a_dry_run_writes_nothing(rrr, base, tmp_path):
    for command in ("mine-failures", "eval"):
        result = rrr(command, *base, "--dry-run")
        assert result.code == 0
        assert json.loads(result.out)["problems"] == (40 if command == "mine-failures" else 10)
    assert not (tmp_path / "run").exists()


def test_the_command_line_wins_over_toml(rrr, base, random_model, tmp_path):
    config = tmp_path / "rrr.toml"
    config.write_text('[mine-failures]\nsamples = 2\nlimit = 5\nstop-at-failure = 0\n[eval]\nlimit = 3\n')
    arguments = [*base, "--model", random_model, "--config", config]
    assert rrr("mine-failures", *arguments, "--limit", 6).code == 0
    attempts = table(tmp_path / "run", "attempts")
    assert len(attempts) == 6 * 2


@pytest.mark.parametrize(("text", "code", "named"), [
    ("[mine-failures]\nsample = 2\n", 2, "sample"),
    ('[mine-failures]\nsamples = "2"\n', 2, "samples"),
    ("[mine-failures]\nsamples = true\n", 2, "samples"),
    ("[mine-failures\n", 3, "TOML"),
    (None, 3, "No such file"),
])
def test_a_bad_toml_file_is_refused(rrr, base, tmp_path, text, code, named):
    config = tmp_path / "rrr.toml"
    if text is not None:
        config.write_text(text)
    result = rrr("mine-failures", *base, "--config", config, "--dry-run")
    assert result.code == code
    assert named in result.err


def test_mining_without_failures_ends_well_with_advice(rrr, tmp_path, random_model):
    task = tmp_path / "sure.py"
    task.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "from parity_task import Parity\nfrom rrr_cli.tasks.base import Verdict\n"
        "class Sure(Parity):\n"
        "    def verify(self, problem, transcript): return Verdict(True, 1.0, None, 'right', 'yes')\n"
    )
    arguments = ["--run", tmp_path / "run", "--task", f"{task}:Sure", "--model", random_model, "--max-tokens", 4]
    result = rrr("mine-failures", *arguments, "--limit", 3, "--samples", 2)
    assert result.code == 0
    assert "no failures among 3 problems" in result.err
    assert exists(tmp_path / "run", "attempts")
    assert rrr("reflect", *arguments).code == 5

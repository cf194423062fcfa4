"""What self-train can learn from, rounds with a reflector of their own, and a reflector's rate on held-out problems."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from conftest import Ran
from grpo_runs import PARITY

from rrr_cli.metrics import rate
from rrr_cli.records import Attempt, Message
from rrr_cli.stages import mine_failures, reflect, repair, train_reflector
from rrr_cli.stages.agent_texts import choose, further_tries, good_texts
from rrr_cli.stages.learnt import tried
from rrr_cli.store.artifacts import read
from rrr_cli.training.texts import NO_LOSS, is_held_out

SMALL = ["--epochs", 1, "--batch", 4, "--micro-batch", 2, "--lr", 0.01]
HELD_OUT = 0.4
OWN = 4  # of 6 tries


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """20 problems tried 6 times; repairs and retries of failures among the first 4 tries, a trained reflector, and its
    repairs."""
    run = tmp_path_factory.mktemp("self_train") / "run"
    common = {"run": run, "task": PARITY, "max_tokens": 8}
    mine_failures.run(mine_failures.Options(
        **common, model=str(random_model), samples=6, stop_at_failure=0, limit=20))
    later = common | {"per_problem": 2, "own_samples": OWN}
    repair.run(repair.Options(**later, feedback="binary"))
    reflect.run(reflect.Options(**later, reflection_tokens=8))
    train_reflector.run(train_reflector.Options(
        run=run, task=PARITY, own_samples=OWN, feedback="binary", epochs=1, batch=4, micro_batch=2, held_out=HELD_OUT))
    repair.run(repair.Options(**later, feedback="binary", reflector=str(run / "models" / "reflector")))
    return run


@pytest.fixture
def common(run: Path) -> list[object]:
    return ["--run", run, "--task", PARITY, *SMALL, "--own-samples", OWN]


def result(ran: Ran) -> dict:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def learnt(summary: dict) -> dict:
    return json.loads((Path(summary["model"]) / "rrr.json").read_text())


def attempts(run: Path) -> dict[str, Attempt]:
    return {a.attempt_id: a for a in read(run, "attempts")}


@pytest.mark.parametrize("variable", ["WORLD_SIZE=2", "ACCELERATE_USE_FSDP=true", "ACCELERATE_USE_DEEPSPEED=true"])
def test_several_devices_are_refused(rrr, run: Path, common: list, monkeypatch: pytest.MonkeyPatch, variable: str):
    monkeypatch.setenv(*variable.split("="))
    before = sorted(run.rglob("*"))
    ran = rrr("self-train", *common, "--texts", "own", "--name", "wide")
    assert (ran.code, ran.out) == (2, "")
    assert "trains in one process, on one device: start it without torchrun and accelerate launch" in ran.err
    assert sorted(run.rglob("*")) == before


def test_repairs_can_be_learnt_alone(rrr, run: Path, common: list, random_model: Path):
    summary = result(rrr("self-train", *common, "--texts", "repairs", "--name", "alone", "--repairs-by", random_model,
                         "--json"))
    rows, record = attempts(run), learnt(summary)
    assert record["own"] == []
    assert summary["own_texts"] == 0
    assert summary["own_tries"] == 20 * OWN
    assert len(record["repairs"]) == summary["texts_from_repairs"] > 0
    assert all(rows[i].phase == "repair" and rows[i].success for i in record["repairs"])


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_retries_after_reflections_are_learnt_beside_own_tries(rrr, run: Path, common: list, method: str):
    summary = result(rrr("self-train", *common, "--texts", "own+retries", "--method", method, "--name",
                         f"retries-{method}", "--json"))
    rows, record = attempts(run), learnt(summary)
    assert len(record["own"]) == summary["own_texts"] > 0
    assert len(record["retries"]) == summary["texts_from_retries"] > 0
    assert "repairs" not in record
    assert all(rows[i].phase == "retry" and rows[i].success and rows[i].reflection_id for i in record["retries"])
    ran = rrr("sql", "--run", run, "--format", "jsonl",
              "select attempt_id, reflector from agent_texts where source = 'retry'")
    view = {row["attempt_id"]: row["reflector"] for row in map(json.loads, ran.out.splitlines())}
    assert set(record["retries"]) <= set(view)
    for name, code in ((view[record["retries"][0]], 0), ("nobody", 5)):
        ran = rrr("self-train", *common, "--texts", "own+retries", "--repairs-by", name, "--dry-run")
        assert ran.code == code
    assert "no retries after reflections by nobody, only by" in ran.err
    assert "rrr reflect" in ran.err


class Words:
    """A model whose tokens are words."""

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[str]:
        return [word for m in messages for word in (f"{m.role}:", *m.content.split())]

    def write(self, text: str) -> list[str]:
        return text.split()


def test_a_retry_is_learnt_right_after_its_problem(run: Path):
    rows = tried(run, "parity", None, OWN, second="retry")
    chosen, _ = choose(rows, "own+retries", None, None)
    shown = [t for t in good_texts(chosen, Words()) if NO_LOSS in t.labels]
    written = [a for c in chosen for a in (*c.own, *c.second)]
    assert len(shown) == len(written)
    assert any(a.phase == "retry" for a in written)
    for text, attempt in zip(shown, written, strict=True):
        problem = next(c.tried.problem for c in chosen if c.tried.problem.problem_id == attempt.problem_id)
        assert text.ids == ["user:", *problem.prompt[0].content.split(), *attempt.transcript[0].content.split()]


def test_matched_further_tries_are_as_many_of_each_problem_as_it_has_repairs(rrr, run: Path, common: list,
                                                                           random_model: Path):
    rows = tried(run, "parity", None, OWN, str(random_model))
    wanted = {one.problem.problem_id: len(one.second) for one in rows if one.second}
    assert set(wanted.values()) == {1, 2}
    assert {problem: len(of) for problem, of in further_tries(rows, "more-samples-matched").items()} == wanted
    spread = further_tries(rows, "more-samples")
    assert sum(map(len, spread.values())) == sum(wanted.values())
    assert {problem: len(of) for problem, of in spread.items()} != wanted
    matched = [*common, "--repairs-by", random_model, "--dry-run", "--texts", "more-samples-matched"]
    summary = result(rrr("self-train", *matched))
    assert (summary["further_tries"], summary["repairs_without_a_further_try"]) == (sum(wanted.values()), 0)
    summary = result(rrr("self-train", *matched, "--own-samples", 5))
    short = sum(n == 2 for n in Counter(
        a.problem_id for a in read(run, "attempts")
        if a.phase == "repair" and a.model == str(random_model)).values())
    assert summary["repairs_without_a_further_try"] == short > 0
    ran = rrr("self-train", *matched, "--own-samples", 6)
    assert ran.code == 2
    assert "0 first tries beyond --own-samples at the same problems" in ran.err


def test_a_trained_reflector_has_a_repair_rate_of_its_own_on_held_out_problems(rrr, run: Path):
    reflector = run / "models" / "reflector"
    command = ["repair", "--run", run, "--task", PARITY, "--max-tokens", 8, "--per-problem", 2, "--own-samples", OWN,
               "--feedback", "binary"]
    ran = rrr(*command, "--reflector", reflector, "--json")
    rates = result(ran)["repair_rates"]
    rows = attempts(run)
    taught = {rows[passed].problem_id for _, passed in json.loads((reflector / "rrr.json").read_text())["pairs"]}
    groups: dict[str, list[Attempt]] = {"held_out": [], "not_held_out": [], "learnt": [], "other": []}
    for a in rows.values():
        if a.phase == "repair" and a.model == str(reflector):
            out = is_held_out(a.problem_id, HELD_OUT)
            groups["held_out" if out else "learnt" if a.problem_id in taught else "other"].append(a)
    groups["not_held_out"] = groups["learnt"] + groups["other"]
    assert min(len(groups["held_out"]), len(groups["learnt"])) > 0
    for group, of in groups.items():
        if of:
            exact = rate([a.success for a in of])
            assert rates[group] == {**vars(exact), "n": len(of), "problems": len({a.problem_id for a in of})}
        else:
            assert rates[group] is None
    assert f"of {len(groups['held_out'])} (" in ran.err
    assert "held out of the reflector's training" in ran.err
    assert result(rrr(*command, "--json"))["repair_rates"] is None, "the untrained one learnt nothing"


def test_a_round_trains_a_reflector_of_its_own(rrr, run: Path, common: list, random_model: Path, tmp_path: Path):
    reflector, later = run / "models" / "reflector", run / "round-2"
    for more, code, why in (
        (["--repairs-by", reflector], 2, "--rounds 2 or more"),
        (["--rounds", 2, "--repairs-by", random_model], 2, "isn't a reflector that rrr train-reflector trained"),
        (["--rounds", 2], 2, "choose with --repairs-by"),
        (["--rounds", 2, "--texts", "own"], 2, "takes no repairs"),
    ):
        ran = rrr("self-train", *common, "--retrain-reflector", *more)
        assert (ran.code, ran.err.count("\n")) == (code, 1), ran.err
        assert why in ran.err
    assert not later.exists()
    command = ["self-train", *common, "--rounds", 2, "--retrain-reflector", "--repairs-by", reflector, "--json"]
    summary = result(rrr(*command))
    again = later / "models" / "reflector"
    record, first = (json.loads((folder / "rrr.json").read_text()) for folder in (again, reflector))
    same = ("model", "held_out", "epochs", "batch", "lr", "feedback", "own_samples", "repairs_by")
    assert {name: record["config"][name] for name in same} == {name: first["config"][name] for name in same}
    rows = attempts(later)
    assert {rows[i].phase for pair in record["pairs"] for i in pair} == {"first", "repair"}
    assert {rows[i].model for i in learnt(summary)["repairs"]} == {str(again)}
    assert {a.model for a in rows.values() if a.phase == "repair"} == {str(random_model), str(again)}
    assert result(rrr(*command)) == summary, "nothing is left to do"


def test_in_a_later_round_its_agent_retries_after_the_same_models_reflections(
    rrr, run: Path, common: list, random_model: Path, tmp_path: Path
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("round-2"))
    common = ["--run", copy, *common[2:], "--texts", "own+retries", "--name", "distilled", "--rounds", 2]
    ran = rrr("self-train", *common, "--retrain-reflector")
    assert ran.code == 2
    assert "takes no repairs" in ran.err
    agent, last = (Path(one["model"]) for one in result(rrr("self-train", *common, "--json"))["rounds"])
    rows = attempts(copy / "round-2")
    assert last == copy / "round-2" / "models" / "distilled"
    assert {(a.phase, a.model) for a in rows.values()} == {("first", str(agent)), ("retry", str(agent))}
    assert {r.reflector for r in read(copy / "round-2", "reflections")} == {str(random_model)}
    assert learnt({"model": last})["retries"]

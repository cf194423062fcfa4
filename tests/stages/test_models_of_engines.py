"""rrr eval --model NAME=ENGINE:MODEL: models of several engines in one table, added to a run one by one."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

from rrr_cli.errors import RrrError
from rrr_cli.options import SamplingOptions
from rrr_cli.stages.models import open_models, own_engine
from rrr_cli.store.artifacts import part_paths, parts, read

PARITY = f"{Path(__file__).parent.parent / 'parity_task.py'}:Parity"
SCRIPT = {"default": ["yes", "yes no", "yes no yes", "a b c d"], "rules": [["short explanation", "count the words"]]}
SECRET = "sk-a1b2c3d4e5f6"


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "script.json"
    path.write_text(json.dumps(SCRIPT))
    return path


@pytest.fixture
def flags(tmp_path, random_model) -> list[object]:
    """An evaluation of one model on this machine."""
    return ["--run", tmp_path / "run", "--task", PARITY, "--max-tokens", 8, "--reflection-tokens", 10, "--model",
            f"base={random_model}"]


def test_a_servers_model_is_added_beside_ours(rrr, flags, script, random_adapter, tmp_path, monkeypatch):
    pytest.importorskip("httpx")
    from openai_server import scripted_server

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = tmp_path / "run"
    assert rrr("eval", *flags, "--model", f"trained={random_adapter}").code == 0
    before = list(read(run, "evaluations"))
    with scripted_server(script) as server:
        added = rrr("eval", *flags, "--model", f"big=openai:served@{server.root}/{SECRET}/v1", "--concurrency", 2,
                    "--cross", "--json")
        assert added.code == 0, added.err
        assert {(seen["body"]["model"], seen["body"]["max_tokens"]) for seen in server.seen()} == {
            ("served", 8), ("served", 10)}
    rows = list(read(run, "evaluations"))
    assert rows[: len(before)] == before
    new = rows[len(before):]
    assert len(new) == 10
    assert {r.first for r in new} <= set(SCRIPT["default"])
    failed = {r.problem_id: r.first for r in before if r.model == "base" and not r.first_success}
    assert {r.problem_id: r.shared_attempt for r in new if r.shared_attempt is not None} == failed
    result = json.loads(added.out)
    assert [m["name"] for m in result["models"]] == ["base", "big"]
    assert result["cross"]["n"] == len(failed)
    assert {r.model_path.partition("/***")[0] for r in new} == {f"openai:served@{server.root}"}
    written = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert SECRET.encode() not in written
    assert SECRET not in json.dumps([p.provenance for p in parts(run, "evaluations")]) + str(rows) + added.err


def test_models_are_added_to_a_run_one_by_one(rrr, flags, random_model, random_adapter, tmp_path):
    together, apart = tmp_path / "together", tmp_path / "run"
    other, more = ["--model", f"trained={random_adapter}"], ["--model", f"copy={random_model}"]
    flags += ["--limit", 5]
    assert rrr("eval", *flags, *other).code == 0
    added = rrr("eval", *flags, *more, "--json")
    assert added.code == 0, added.err
    assert [m["name"] for m in json.loads(added.out)["models"]] == ["base", "copy"]  # those that were named
    everything = rrr("eval", *flags, *other, *more, "--json")
    assert rrr("eval", "--run", together, *flags[2:], *other, *more, "--json").out == everything.out
    assert list(read(apart, "evaluations")) == list(read(together, "evaluations"))
    renamed = [f"first={random_model}" if str(flag).startswith("base=") else flag for flag in flags]
    assert rrr("eval", *renamed, *more).code == 3  # another first model


def test_a_model_that_runs_otherwise_is_another(rrr, flags, script, random_model, tmp_path):
    other = ["eval", *flags[:-2], "--model", f"base=scripted:{script}", "--model", f"ours={random_model}"]
    assert rrr(*other).code == 0
    assert rrr(*other, "--dtype", "float32").code == 0  # what auto is on a CPU
    refused = rrr(*other, "--dtype", "bfloat16")
    assert refused.code == 3
    assert "tested as ours had other weights or engine options" in refused.err
    assert rrr(*other[:-2], "--dtype", "bfloat16").code == 2  # nothing here takes it


def test_a_further_models_date_is_that_of_its_first_rows(rrr, flags, random_model, tmp_path, monkeypatch):
    dated = shutil.copytree(random_model, tmp_path / "dated")
    template = (dated / "chat_template.jinja").read_text()
    (dated / "chat_template.jinja").write_text("{{ strftime_now('%d') }} " + template)
    assert rrr("eval", *flags).code == 0
    both = [*flags, "--model", f"dated={dated}", "--part", 4]
    assert rrr("eval", *both).code == 0
    (today,) = {p["template_date"] for p in (q.provenance for q in parts(tmp_path / "run", "evaluations"))
                if "template_date" in p}
    rows = list(read(tmp_path / "run", "evaluations"))
    part_paths(tmp_path / "run", "evaluations")[-1].unlink()

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromisoformat(today) + timedelta(1)

    monkeypatch.setattr("rrr_cli.stages.rendering.datetime", Tomorrow)
    assert rrr("eval", *both).code == 0
    assert list(read(tmp_path / "run", "evaluations")) == rows


@pytest.mark.parametrize(("spec", "expected"), [
    ("tiny", (None, "tiny", None)),
    ("folder:with/colon", (None, "folder:with/colon", None)),
    ("transformers:owner/model", ("transformers", "owner/model", None)),
    ("openai:a:b@http://h/v1/", ("openai", "a:b", "http://h/v1")),
    ("openai:user@host", ("openai", "user@host", None)),
])
def test_an_engine_stands_before_the_model(spec, expected):
    assert own_engine("m", spec) == expected


@pytest.mark.parametrize(("spec", "hint"), [
    ("big@http://h/v1", "big=openai:big@URL"), ("vllm:big@http://h/v1", "big=openai:big@URL"),
    ("openai:", "is missing"), ("openai:big", "openai:big@http://localhost"),
    ("openai:big@http://user:hidden@h/v1", "--model big=openai:big@URL: "), ("openai:big@http://", "not an address"),
])
def test_a_bad_address_is_refused_in_one_line(rrr, flags, spec, hint):
    refused = rrr("eval", *flags, "--model", f"big={spec}")
    assert refused.code == 2
    assert hint in refused.err
    assert "hidden" not in refused.err
    assert refused.err.count("\n") == 1


def test_an_option_goes_to_the_engines_that_take_it(script):
    options = SamplingOptions(concurrency=3, dtype="bfloat16")
    models = open_models(options, {"a": "tiny", "b": "openai:x@http://h", "c": f"scripted:{script}"})
    assert [(m.options.concurrency, m.options.dtype, m.options.base_url) for m in models.values()] == [
        (32, "bfloat16", None), (3, "auto", "http://h"), (32, "auto", None)]
    with pytest.raises(RrrError, match="--concurrency 3: --engine transformers or scripted doesn't use it"):
        open_models(options, {"a": "tiny", "c": f"scripted:{script}"})
    with pytest.raises(RrrError, match="each model names an engine of its own"):
        open_models(SamplingOptions(engine="vllm"), {"c": f"scripted:{script}"})


def test_a_server_is_sent_no_date():
    options = SamplingOptions(template_args='{"date": "2026-01-31", "thinking": false}')
    models = open_models(options, {"a": "tiny", "b": "openai:x@http://h"})
    assert [m.options.template_args for m in models.values()] == [options.template_args, '{"thinking": false}']


def test_forgetting_takes_no_engine(rrr, tmp_path):
    refused = rrr("forgetting", "--run", tmp_path / "run", "--model", "base=vllm:tiny", "--dry-run")
    assert refused.code == 2
    assert "without an engine" in refused.err

"""Every command's help, and the example in it, typed by a newcomer in an empty folder."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")

from rrr_cli.text import UNSAFE

COMMANDS = ("mine-failures", "reflect", "grpo", "eval", "sql", "show", "schema")


def example_of(rrr, command: str) -> list[str]:
    result = rrr(command, "--help")
    assert result.code == 0
    flat = " ".join(result.out.split())
    match = re.search(r"Example: rrr (.+?)(?= (?:Arguments|Options): )", flat)
    assert match, flat
    return shlex.split(match[1])


def test_the_examples_in_the_help_run(rrr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("mine-failures", "reflect", "grpo", "eval", "sql", "schema", "report"):
        arguments = example_of(rrr, command)
        assert arguments[0] == command
        result = rrr(*arguments)
        assert result.code == 0, result.err
        assert result.out
    assert (Path("runs/default") / "models" / "policy" / "adapter_model.safetensors").is_file()
    assert example_of(rrr, "show")[0] == "show"
    ids = json.loads(rrr("sql", "--format", "jsonl", "select attempt_id from failures limit 1").out)
    shown = rrr("show", ids["attempt_id"][:8])
    assert shown.code == 0, shown.err
    assert "Using the numbers" in shown.out


def test_grpos_policy_can_be_evaluated(rrr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ["--max-tokens", 48]
    assert rrr("mine-failures", "--limit", 40, *short).code == 0
    trained = rrr("grpo", "--steps", 1, "--batch", 16, "--group", 8, "--reflection-tokens", 48, *short)
    assert trained.code == 0, trained.err
    result = rrr("eval", "--model", "base=tiny", "--model", "trained=runs/default/models/policy", "--limit", 12,
                 "--reflection-tokens", 48, *short, "--json")
    assert result.code == 0, result.err
    assert [m["name"] for m in json.loads(result.out)["models"]] == ["base", "trained"]
    query = "select count(*) as n, sum(trained_tokens) > 0 as trained from rollouts"
    assert json.loads(rrr("sql", "--format", "jsonl", query).out) == {"n": 16, "trained": True}


def test_unknown_names_are_one_line(rrr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rrr("mine").code == 2
    assert rrr("eval", "--modle", "x").code == 2
    for arguments, code, named in (
        (["mine-failures", "--task", "chess"], 2, "countdown"),
        (["mine-failures", "--level", "impossible"], 2, "easy"),
        (["mine-failures", "--samples", "0"], 2, "--samples"),
        (["mine-failures", "--model", "./nowhere", "--limit", "1"], 3, "./nowhere"),
        (["mine-failures", "--engine", "abacus", "--limit", "1"], 2, "transformers"),
        (["grpo"], 3, "rrr mine-failures"),
        (["reflect"], 3, "rrr mine-failures"),
        (["sql", "select 1"], 3, "rrr mine-failures"),
        (["sql"], 2, "rrr sql"),
        (["schema", "tables"], 2, "attempts"),
    ):
        result = rrr(*arguments)
        assert result.code == code, (arguments, result)
        assert named in result.err
        assert "Traceback" not in result.err
        assert result.out == ""


@pytest.mark.parametrize("words", [
    ["nosuch\x1b[31m"], ["mine-failures", "--nosuch\u202e", "1"], ["mine-failures", "--limit", "x"], ["show"],
    ["mine-failures", "--task"], ["mine-failures", "--task", "x\x1b[31m"], ["mine-failures", "--data", "no\nsuch\x07"],
    ["sql", "--run", "no\u200bsuch", "select 1"], ["mine-failures", "--model", "./no\U000e0041such"],
    ["mine-failures", "--config", "no\x9bsuch.toml"], ["models", "get", "x\x1b[31m"], ["schema", "x\x1b[31m"],
])
def test_a_wrong_word_is_one_line_without_its_control_characters(rrr, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = rrr(*words)
    assert result.code in (2, 3)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert result.err.startswith("rrr: ")
    assert not UNSAFE.search(result.err), ascii(result.err)


def test_options_of_a_typer_that_keeps_their_bounds_elsewhere_are_left_to_it():
    from types import SimpleNamespace

    from rrr_cli.help import read_plainly

    asked = lambda: None  # noqa: E731
    bound, free = SimpleNamespace(get_runtime_param=asked, max=3), SimpleNamespace(get_runtime_param=asked)
    read_plainly([bound, free, SimpleNamespace()])
    assert bound.get_runtime_param is asked
    assert free.get_runtime_param is not asked


def test_version_prints_the_version(rrr):
    import rrr_cli

    assert rrr("--version").out == f"rrr {rrr_cli.__version__}\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_files_are_read_as_windows_writes_them(rrr, tmp_path, encoding):
    for name, text in (
        ("options.toml", "[mine-failures]\r\nlimit = 2\r\nsamples = 1\r\n"), ("query.sql", "select 'é' as e\r\n"),
        ("rules.json", '{"default": "nö",\r\n"rules": []}'),
        ("rows.jsonl", '{"nums": [1, 2], "target": 3, "split": "train"}\r\n\r\n'),
    ):
        (tmp_path / name).write_bytes(text.encode(encoding))
    mined = rrr("mine-failures", "--config", tmp_path / "options.toml", "--data", tmp_path / "rows.jsonl", "--engine",
                "scripted", "--model", tmp_path / "rules.json", "--run", tmp_path / "run", "--json")
    assert mined.code == 0, mined.err
    assert json.loads(mined.out)["problems"] == 1
    asked = rrr("sql", "--run", tmp_path / "run", "--file", tmp_path / "query.sql", "--format", "jsonl")
    assert json.loads(asked.out) == {"e": "é"}

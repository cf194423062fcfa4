"""The core install, without torch: help and SQL work, and a command that needs an extra names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rrr_cli.store.artifacts import Writer
from rrr_cli.tasks.countdown import make_problem

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a venv that holds the package with its core dependencies only."""
    venv = tmp_path_factory.mktemp("core") / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    install = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", ROOT / "constraints.txt", ROOT], check=True, capture_output=True)
    installed = subprocess.run([*install[:3], "list"], check=True, capture_output=True, text=True).stdout
    assert "torch" not in installed
    assert "numpy" not in installed
    return venv / "bin"


def run(core: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run([core / "rrr", *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_help_and_sql_work_on_the_core_install(core, tmp_path):
    assert "mine-failures" in run(core, tmp_path, "--help").stdout
    for command in ("mine-failures", "reflect", "grpo", "eval", "sql", "show", "schema"):
        assert run(core, tmp_path, command, "--help").returncode == 0
    with Writer(tmp_path / "runs" / "default", "problems", "mine-failures", {}) as writer:
        writer.append([make_problem([1, 2, 3], 6, "train", "easy", "1 + 2 + 3")])
    query = "select difficulty, count(*) as n from problems group by all"
    result = run(core, tmp_path, "sql", query, "--format", "csv")
    assert result.stdout.split() == ["difficulty,n", "easy-3,1"], result.stderr
    assert run(core, tmp_path, "schema", "attempts").returncode == 0


def test_a_missing_extra_says_what_to_type(core, tmp_path):
    for arguments in (["mine-failures", "--limit", "1"], ["eval", "--limit", "1"],
                      ["mine-failures", "--limit", "1", "--engine", "vllm", "--overwrite"]):
        result = run(core, tmp_path, *arguments)
        assert result.returncode == 4, result.stderr
        assert "pip install 'rrr_cli[" in result.stderr
        assert "Traceback" not in result.stderr


def test_the_embedded_model_is_in_the_installed_package(core):
    weights = list((core.parent / "lib").glob("python*/site-packages/rrr_cli/models/tiny/*.safetensors"))
    assert len(weights) == 1

"""Re-ReST by the command line: repairs, the reflector's and the agent's training, on a model with random weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Ran
from grpo_runs import PARITY

from rrr_cli.errors import RrrError
from rrr_cli.records import Message
from rrr_cli.store.artifacts import read
from rrr_cli.training.texts import NO_LOSS, fitting, texts

GUESSING = f"{Path(__file__).parent.parent / 'guessing_task.py'}:Guessing"
SHORT = ["--max-tokens", 8]
SMALL = ["--epochs", 2, "--batch", 4, "--micro-batch", 2, "--lr", 0.01]


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """A run with tries at the parity task, and repairs of the failed ones."""
    run = tmp_path_factory.mktemp("re_rest") / "run"
    common = ["--run", run, "--task", PARITY, *SHORT]
    for command in (
        ["mine-failures", "--model", random_model, "--samples", 6, "--stop-at-failure", 0],
        ["repair", "--feedback", "binary"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rrr_cli", *map(str, [*command, *common])], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def reflector(mined: Path) -> Path:
    """The reflector that was trained on it."""
    command = ["train-reflector", "--run", mined, "--task", PARITY, *SMALL, "--feedback", "binary"]
    done = subprocess.run([sys.executable, "-m", "rrr_cli", *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return mined / "models" / "reflector"


def result(ran: Ran) -> dict:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def made_by(model: str) -> dict:
    return json.loads((Path(model) / "rrr.json").read_text())


def test_the_reflector_learns_from_own_pairs_and_from_repairs(rrr, mined: Path):
    told = result(rrr("train-reflector", "--run", mined, "--task", PARITY, *SMALL, "--feedback", "binary", "--json"))
    views = {}
    for source in ("own", "repair"):
        ran = rrr("sql", "--run", mined, "--format", "jsonl",
                  f"select failed_id, passed_id from reflector_pairs where source = '{source}'")
        views[source] = {tuple(json.loads(line).values()) for line in ran.out.splitlines()}
    pairs = {tuple(pair) for pair in made_by(told["model"])["pairs"]}
    assert len(pairs) == told["own_pairs"] + told["pairs_from_repairs"]
    assert len(pairs & views["own"]) == told["own_pairs"] > 0
    assert len(pairs & views["repair"]) == told["pairs_from_repairs"] > 0
    losses = [row for row in read(mined, "losses") if row.model == "reflector"]
    assert [row.step for row in losses] == list(range(1, told["steps"] + 1))
    assert losses[-1].loss < losses[0].loss
    again = result(rrr("train-reflector", "--run", mined, "--task", PARITY, *SMALL, "--feedback", "binary", "--json"))
    assert again == told, "nothing is left to do"


def test_a_trained_reflector_repairs_beside_the_untrained_one(rrr, mined: Path):
    reflector = result(rrr(
        "train-reflector", "--run", mined, "--task", PARITY, *SMALL, "--feedback", "binary", "--json"))["model"]
    before = [a.attempt_id for a in read(mined, "attempts")]
    told = result(rrr("repair", "--feedback", "binary", "--reflector", reflector, "--run", mined,
                      "--task", PARITY, *SHORT, "--json"))
    after = list(read(mined, "attempts"))
    assert [a.attempt_id for a in after[: len(before)]] == before
    assert {a.model for a in after[len(before):]} == {reflector}
    assert len(after) - len(before) == told["repairs"] == told["failed_attempts"]
    again = rrr("train-reflector", "--run", mined, "--task", PARITY, *SMALL, "--feedback", "binary", "--json")
    assert result(again)["model"] == reflector, "its own repairs are nothing new to learn from"
    ran = rrr("repair", "--reflector", reflector, "--run", mined, "--task", PARITY, *SHORT)
    assert ran.code == 2
    assert "trained with --feedback binary" in ran.err
    ran = rrr("self-train", "--run", mined, "--task", PARITY, *SMALL, "--dry-run")
    assert ran.code == 2
    assert "--repairs-by" in ran.err
    ran = rrr("self-train", "--run", mined, "--task", PARITY, *SMALL, "--dry-run", "--repairs-by", "nobody")
    assert ran.code == 5
    assert reflector in ran.err


def test_a_bad_name_or_batch_replaces_nothing(rrr, mined: Path, reflector: Path):
    common = ["--run", mined, "--task", PARITY, *SMALL, "--texts", "own", "--overwrite"]
    before = (reflector / "rrr.json").read_bytes()
    for more in (["--name", "reflector"], ["--name", "reflector", "--micro-batch", 3], ["--name", "a/b"]):
        assert rrr("self-train", *common, *more).code in (2, 3)
    assert (reflector / "rrr.json").read_bytes() == before
    ran = rrr("self-train", *common, "--name", "typo", "--lora-targets", "nope")
    assert ran.code == 2
    assert "no such layers" in ran.err


def test_a_retrained_reflector_of_the_same_name_is_refused_and_overwrite_replaces_its_repairs(rrr, tmp_path: Path):
    common = ["--run", tmp_path / "run", "--task", GUESSING, "--engine", "scripted"]
    script = tmp_path / "player.json"
    repairs = []
    for reply in ("1", "2"):
        script.write_text(json.dumps({"default": "7"}))
        if reply == "1":
            result(rrr("mine-failures", *common, "--model", script, "--json"))
        reflector = tmp_path / "reflector.json"
        reflector.write_text(json.dumps({"default": reply}))
        command = ["repair", *common, "--reflector", reflector]
        if reply == "2":
            assert rrr(*command).code == 3
        repairs.append(result(rrr(*command, *(["--overwrite"] if reply == "2" else []), "--json"))["repairs"])
    assert repairs[0] == repairs[1]
    assert sum(a.phase == "repair" for a in read(tmp_path / "run", "attempts")) == repairs[0]


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_the_agent_learns_own_passing_tries_and_repairs(rrr, mined: Path, random_model: Path, method: str):
    told = result(rrr("self-train", "--run", mined, "--task", PARITY, *SMALL, "--method", method, "--name", method,
                      "--repairs-by", random_model, "--json"))
    attempts = {a.attempt_id: a for a in read(mined, "attempts")}
    made = made_by(told["model"])
    assert len(made["own"]) == told["own_texts"] > 0
    assert len(made["repairs"]) == told["texts_from_repairs"] > 0
    assert {attempts[i].phase for i in made["own"]} == {"first"}
    assert {(attempts[i].phase, attempts[i].model) for i in made["repairs"]} == {("repair", str(random_model))}
    assert all(attempts[i].success for i in made["own"] + made["repairs"])
    evaluated = rrr("eval", "--run", mined, "--task", PARITY, *SHORT, "--reflection-tokens", 8, "--limit", 8,
                    "--model", f"base={random_model}", "--model", f"{method}={told['model']}", "--json")
    assert [m["name"] for m in result(evaluated)["models"]] == ["base", method]


def test_more_samples_takes_as_many_further_tries_as_there_are_repairs(rrr, mined: Path, random_model: Path):
    common = ["--run", mined, "--task", PARITY, *SMALL, "--dry-run"]
    own = result(rrr("self-train", *common, "--texts", "own", "--own-samples", 3))
    common += ["--repairs-by", random_model]
    more = result(rrr("self-train", *common, "--texts", "more-samples", "--own-samples", 3))
    both = result(rrr("self-train", *common, "--texts", "own+repairs", "--own-samples", 3))
    assert more["further_tries"] == both["repairs_made"] > 0
    assert own["own_tries"] == more["own_tries"] == both["own_tries"]
    assert own["further_tries"] == own["repairs_made"] == own["texts_from_repairs"] == 0
    ran = rrr("self-train", *common, "--texts", "more-samples")
    assert ran.code == 2
    assert "equal budget" in ran.err


def test_another_configuration_is_refused_by_name(rrr, mined: Path):
    common = ["--run", mined, "--task", PARITY, *SMALL, "--texts", "own", "--name", "refused"]
    result(rrr("self-train", *common, "--json"))
    ran = rrr("self-train", *common, "--held-out", 0.1)
    assert ran.code == 3
    assert "held_out was 0.05, now 0.1" in ran.err


def test_the_test_split_is_never_learnt(rrr, tmp_path: Path, random_model: Path):
    common = ["--run", tmp_path / "run", "--task", PARITY]
    rrr("mine-failures", *common, *SHORT, "--model", random_model, "--split", "test", "--samples", 2)
    for command in ("train-reflector", "self-train"):
        ran = rrr(command, *common)
        assert ran.code == 3
        assert "test split" in ran.err


def test_a_killed_training_goes_on_to_the_same_weights(mined: Path, tmp_path: Path):
    def train(run: Path, kill_after: int | None = None) -> int:
        command = [sys.executable, "-m", "rrr_cli", "self-train", "--input", mined, "--run", run, "--task", PARITY,
                   *SMALL, "--epochs", 4, "--texts", "own", "--held-out", 0.3, "--patience", 4]
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill_after is not None:
            while not list((run / "models").glob(f"agent-checkpoints/step-*{kill_after}")) and process.poll() is None:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        return process.wait()

    assert train(tmp_path / "straight") == 0
    looked = [row.step for row in read(tmp_path / "straight", "losses") if row.held_out_loss is not None]
    assert len(looked) == 4, "once an epoch"
    assert train(tmp_path / "killed", kill_after=looked[2]) == -signal.SIGKILL
    assert train(tmp_path / "killed") == 0
    runs = [tmp_path / "straight", tmp_path / "killed"]
    weights = [(run / "models/agent/adapter_model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    rows = [[(row.step, row.loss, row.held_out_loss) for row in read(run, "losses")] for run in runs]
    assert rows[0] == rows[1]


def test_rounds_mine_repair_and_train_each_in_a_run_of_its_own(rrr, tmp_path: Path, random_model: Path):
    common = ["--run", tmp_path / "run", "--task", PARITY]
    result(rrr("mine-failures", *common, *SHORT, "--model", random_model, "--samples", 3, "--limit", 12,
               "--stop-at-failure", 0, "--json"))
    ran = rrr("self-train", *common, *SMALL, "--rounds", 2)
    assert ran.code == 3
    assert "no repairs" in ran.err
    result(rrr("repair", *common, *SHORT, "--repairs", 2, "--json"))
    told = result(rrr("self-train", *common, *SMALL, "--rounds", 2, "--json"))
    assert [Path(r["model"]).relative_to(tmp_path / "run") for r in told["rounds"]] == [
        Path("models/agent"), Path("round-2/models/agent")]
    attempts = list(read(tmp_path / "run/round-2", "attempts"))
    assert {a.model for a in attempts if a.phase == "first"} == {told["rounds"][0]["model"]}
    assert len({a.problem_id for a in attempts}) == 12
    assert sum(a.phase == "repair" for a in attempts) > 0


class Characters:
    """A model whose tokens are characters; its template puts a marker before each turn."""

    def __init__(self, forgetful: bool = False) -> None:
        self.forgetful = forgetful  # drops all but the last of the model's turns, as some templates do with thoughts

    def render(self, messages: tuple[Message, ...], tools: str | None) -> list[int]:
        kept = [m for i, m in enumerate(messages) if not self.forgetful or m.role == "user"]
        return [ord(c) for m in kept for c in f"{m.role[0]}:{m.content}."] + [ord("a"), ord(":")]

    def write(self, text: str) -> list[int]:
        return [ord(c) for c in f"{text}."]


TURNS = [Message("assistant", "go"), Message("user", "seen"), Message("assistant", "take")]


def test_what_the_environment_says_carries_no_loss():
    (text,) = texts(Characters(), [Message("user", "do")], TURNS, None, "p")
    assert "".join(map(chr, text.ids)) == "u:do.a:go.u:seen.a:take."
    assert "".join(chr(i) for i in text.labels if i != NO_LOSS) == "go.take."
    assert all(label in (NO_LOSS, i) for i, label in zip(text.ids, text.labels, strict=True))


def test_a_template_that_rewrites_earlier_turns_gives_one_sequence_a_turn():
    found = texts(Characters(forgetful=True), [Message("user", "do")], TURNS, None, "p")
    assert ["".join(map(chr, t.ids)) for t in found] == ["u:do.a:go.", "u:do.u:seen.a:take."]
    assert ["".join(chr(i) for i in t.labels if i != NO_LOSS) for t in found] == ["go.", "take."]


def test_texts_that_do_not_fit_are_left_out_whole_and_many_are_refused():
    rows = texts(Characters(), [Message("user", "do")], TURNS, None, "p") * 200
    long = texts(Characters(), [Message("user", "do " * 50)], TURNS, None, "p")
    kept, out = fitting([*rows, *long], 40)
    assert (kept, out) == (rows, 1)
    with pytest.raises(RrrError, match="3 of 203 texts"):
        fitting([*rows, *long * 3], 40)


def test_episodes_are_learnt_turn_by_turn(rrr, tmp_path: Path):
    script = tmp_path / "player.json"
    script.write_text(json.dumps({"default": ["4", "2"], "rules": [["higher", ["6", "7"]], ["lower", ["2", "1"]]]}))
    common = ["--run", tmp_path / "run", "--task", GUESSING]
    result(rrr("mine-failures", *common, "--engine", "scripted", "--model", script, "--samples", 4,
               "--stop-at-failure", 0, "--json"))
    for command in (["train-reflector"], ["self-train", "--texts", "own", "--method", "dpo", "--name", "preferring"]):
        told = result(rrr(*command, *common, "--model", "tiny", *SMALL, "--epochs", 1, "--json"))
        assert told["loss_first_step"] > 0

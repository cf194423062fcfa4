"""What every engine promises. vLLM is tested by `make test-vllm`, where it is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai_server import scripted_server, vllm_server

from rrr_cli.engines import load_engine
from rrr_cli.engines.base import Completion, Engine, Prompt, Request, Sampling, streams
from rrr_cli.records import Message

SCRIPT = {
    "default": [f"answer number {i} is <answer> {i} + {i} </answer>" for i in range(50)],
    "rules": [["Reflect", [f"explanation {i} : try again" for i in range(50)]]],
}
needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm isn't installed")


VLLM = [pytest.mark.vllm, needs_vllm]


@pytest.fixture(
    scope="module",
    params=["scripted", "transformers", "openai", *(pytest.param(p, marks=VLLM) for p in ("vllm", "openai of vllm"))],
)
def engine(
    request: pytest.FixtureRequest, random_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT))
    if request.param == "openai":
        with scripted_server(script) as server:
            yield load_engine("openai", str(script), base_url=server.url)
    elif request.param == "openai of vllm":
        with vllm_server(random_model, folder / "log") as url:
            yield load_engine("openai", str(random_model), base_url=url)
    else:
        yield load_engine("scripted", str(script)) if request.param == "scripted" else load_engine(
            request.param, str(random_model), batch_size=16)


def prompt(text: str, *seeds: int) -> Prompt:
    return Prompt((Message("user", text),), seeds)


PROMPTS = [
    prompt("Using the numbers 3 4 5 create an equation that equals 12", 2**62 + 1, 7, 8),
    prompt("Reflect", 7),
    prompt("numbers 1 2", 9, 10, 11, 12, 13),
]
SAMPLING = Sampling(temperature=1.0, max_tokens=24)


def texts(completions_B_N: list[list[Completion]]) -> list[list[str]]:
    return [[c.text for c in row] for row in completions_B_N]


def test_one_completion_a_seed_in_order(engine: Engine) -> None:
    both = engine.generate(PROMPTS, SAMPLING)
    assert [len(row) for row in both] == [3, 1, 5]
    seeds_reversed = [Prompt(p.messages, p.seeds[::-1]) for p in PROMPTS[::-1]]
    assert [row[::-1] for row in engine.generate(seeds_reversed, SAMPLING)[::-1]] == both


def test_a_seeds_text_ignores_the_batch(engine: Engine) -> None:
    together = engine.generate(PROMPTS, SAMPLING)
    assert engine.generate(PROMPTS, SAMPLING) == together
    alone = [[engine.generate([prompt_of(p, s)], SAMPLING)[0][0] for s in p.seeds] for p in PROMPTS]
    assert alone == together


def test_what_is_streamed_is_what_is_generated(engine: Engine) -> None:
    if not streams(engine):
        pytest.skip("answers batch by batch")
    waiting = [Request(number, p, SAMPLING.max_tokens) for number, p in enumerate(PROMPTS)]
    expected = dict(enumerate(engine.generate(PROMPTS, SAMPLING)))

    def feed(free: int, idle: bool) -> list[Request]:
        return [waiting.pop()] if free and waiting else []

    assert dict(engine.stream(feed, SAMPLING)) == expected


def prompt_of(p: Prompt, seed: int) -> Prompt:
    return Prompt(p.messages, (seed,))


def test_seeds_decide_the_texts(engine: Engine) -> None:
    (row,) = engine.generate([prompt("numbers 1 2", *range(12), 0)], SAMPLING)
    assert len({c.text for c in row}) > 6
    assert row[0] == row[12]


def test_max_tokens_is_honoured_and_counted(engine: Engine) -> None:
    for most in (1, 5):
        for row in engine.generate(PROMPTS, Sampling(max_tokens=most)):
            for c in row:
                assert 1 <= c.tokens <= most
                assert c.finish_reason == "stop" or c.tokens == most
                assert len(c.text.split()) <= most
    assert any(c.finish_reason == "length" for row in engine.generate(PROMPTS, Sampling(max_tokens=1)) for c in row)


def test_the_end_of_turn_is_counted(engine: Engine) -> None:
    (row,) = engine.generate([prompt("numbers 1 2", *range(24))], Sampling(max_tokens=120))
    assert {c.finish_reason for c in row} <= {"stop", "length"}
    stopped = [c for c in row if c.finish_reason == "stop"]
    assert stopped, "no sample came to its end in 120 tokens"
    for c in stopped:
        assert not any(special in c.text for special in ("<s>", "</s>", "<pad>"))
        # words are tokens, except for special tokens and punctuation, which the tokenizer joins to the word before it
        assert len(c.text.split()) < c.tokens


def test_prompts_are_counted(engine: Engine) -> None:
    long, short, _ = (row[0].prompt_tokens for row in engine.generate(PROMPTS, SAMPLING))
    assert long > short > 0


def test_temperature_0_ignores_the_seed(engine: Engine) -> None:
    (row,) = engine.generate([prompt("numbers 5 6", 1, 2, 3)], Sampling(temperature=0.0, max_tokens=16))
    assert row[0] == row[1] == row[2]


def test_no_prompt_or_seed_gives_no_completion(engine: Engine) -> None:
    assert engine.generate([], SAMPLING) == []
    assert engine.generate([prompt("numbers")], SAMPLING) == [[]]


def test_a_small_top_p_is_greedy(engine: Engine) -> None:
    if engine.model.endswith("script.json"):
        pytest.skip("rules have no probabilities")
    (row,) = engine.generate([prompt("numbers 5 6", 1, 2)], Sampling(temperature=1.0, top_p=1e-6, max_tokens=16))
    (greedy,) = engine.generate([prompt("numbers 5 6", 1, 2)], Sampling(temperature=0.0, max_tokens=16))
    assert row == greedy


def test_a_full_window_gives_an_empty_completion(engine: Engine) -> None:
    if engine.name == "scripted":
        pytest.skip("rules have no window")
    prompts = [prompt("yes " * 300, 1, 2), prompt("yes " * 240, 1, 2, 3)]
    full, close = engine.generate(prompts, Sampling(max_tokens=64))
    assert [(c.text, c.tokens, c.finish_reason) for c in full] == [("", 0, "length")] * 2
    assert all(c.prompt_tokens >= 256 for c in full)
    assert all(c.tokens >= 1 and c.prompt_tokens + c.tokens <= 256 for c in close)


def test_an_engine_has_name_model_and_fingerprint(engine: Engine) -> None:
    assert engine.name in {"scripted", "transformers", "vllm", "openai"}
    assert Path(engine.model).exists()
    assert len(engine.fingerprint) == 16


@pytest.mark.vllm
@needs_vllm
@pytest.mark.parametrize("folder", ["random_model", "random_adapter"])
def test_vllm_and_transformers_agree_when_greedy(folder: str, request: pytest.FixtureRequest) -> None:
    model, greedy = str(request.getfixturevalue(folder)), Sampling(temperature=0.0, max_tokens=24)
    expected = load_engine("transformers", model).generate(PROMPTS, greedy)
    assert load_engine("vllm", model, batch_size=16).generate(PROMPTS, greedy) == expected


@pytest.mark.vllm
@needs_vllm
def test_vllm_takes_more_prompts_than_a_step_prefills(random_model: Path) -> None:
    # On a CPU vLLM can't go on with a seeded sample whose prefill it has split.
    engine = load_engine("vllm", str(random_model), batch_size=64)
    (row,) = engine.generate([prompt("yes " * 200, *range(64))], SAMPLING)
    assert len(row) == 64
    assert len({c.text for c in row}) > 1
    assert engine.generate([prompt("yes " * 200, 5)], SAMPLING) == [[row[5]]]

"""Rebuild the embedded demonstration model (`--model tiny`) from nothing: data, tokenizer, training, check, provenance.

Reads only rrr's own prompts and the easy Countdown problems; writes a Hugging Face folder (rrr_cli/models/tiny by
default). The model is a word-level Llama trained on made-up transcripts of attempts, reflections and retries, in the
very chats of `rrr_cli/prompts.py`: its tokenizer holds their fixed wording as single tokens. A candidate is written
`3 * 7 = 21 + 8 = 29 yes`, with the model's own mark; an answer thinks through a short series of them and the last one
counts; a reflection says what came out and tries some more. In the transcripts many candidates are wrong and giving up
is a matter of chance, so the model fails often, and a reward for reflections has something to teach. Going on is a
comma and giving up a full stop, in answers and reflections alike, so what reflections learn reaches the answers too.

Refuses to learn from the test split: no transcript poses a problem that is held out, and none holds a candidate that
solves one, not even as a wrong candidate for another target.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import combinations, combinations_with_replacement, islice
from pathlib import Path
from random import Random
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrr_cli import prompts
from rrr_cli.records import Message
from rrr_cli.tasks.countdown import EASY_TEST_SHARE, problem_key, split_of

OUT = Path(__file__).parent.parent / "rrr_cli" / "models" / "tiny"
LARGEST = 120  # the largest number that is a word
NEAREST = 8  # wrong candidates whose values lie nearest to the target
HELD_OUT_SHARE = 0.30  # the test split, and above it the dev split on which the recipe was tuned

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|> {{ message.content }} <|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Recipe:
    """Every number that shapes the model. Shares and chances are probabilities."""

    steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 2e-3  # after 50 steps of warm-up; cosine down to a tenth
    largest_number: int = 12  # of the wider problems, which keep the model from learning the easy ones by heart
    wide_share: float = 0.3  # of transcripts with a number above 10
    answer_only: float = 0.5  # transcripts that are a problem and its answer
    plain_retry: float = 0.1  # a failed answer, then another try without a reflection: the control of `rrr eval`
    right: float = 0.45  # chance that a candidate is right
    near: float = 0.5  # chance that a wrong one is among the NEAREST; unlikely ones teach little about what to try next
    give_up: tuple[float, ...] = (0.25, 0.8)  # of stopping after a wrong candidate; one of them for a whole transcript
    most: int = 6  # candidates in a series
    habit_steps: int = 300  # at the end: the habit of giving up early, which a reward can unlearn
    habit_learning_rate: float = 6e-4
    habit_give_up: tuple[float, ...] = (0.25, *[0.85] * 9)
    use_reflection: float = 0.9  # chance that a retry takes what its reflection found


@dataclass(frozen=True)
class Candidate:
    """An expression over three numbers, its working and its value."""

    expression: tuple[str, ...]  # ( 3 * 7 ) + 8
    working: tuple[str, ...]  # 3 * 7 = 21 + 8 = 29
    value: int


# The chat ------------------------------------------------------------------------------------------------------------


def phrases() -> list[str]:
    """The fixed wording of every template, cut at its fields: one token each."""
    cut: list[str] = []
    for template, fields in (
        (prompts.COUNTDOWN, ("{numbers}", "{target}")), (prompts.COUNTDOWN_REFLECT, ()), (prompts.COUNTDOWN_RETRY, ()),
        (prompts.REFLECTION_ONLY, ("{reflection}",)),
    ):
        rest = template
        for field in fields:
            head, _, rest = rest.partition(field)
            cut.append(head.strip())
        cut.append(rest.strip())
    return [phrase for phrase in cut if phrase]


SPECIAL = ["<pad>", "<unk>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
CAME_TO, NOT, TRY = "That makes", ", not", ". Try:"  # of a reflection
SYMBOLS = ["[", "]", ",", ".", "+", "-", "*", "/", "(", ")", "=", "yes", "no"]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One word, one token; the templates' phrases are one token each. Decoding joins words with spaces."""
    whole = [*TAGS, *phrases(), CAME_TO, NOT, TRY]
    words = [*SPECIAL, *whole, *SYMBOLS, *map(str, range(LARGEST + 1))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"\d+|[A-Za-z]+|[^\dA-Za-z]"), "isolated"),
    ])
    backend.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in SPECIAL])
    backend.add_tokens([AddedToken(word, normalized=False, special=False) for word in whole])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>",
        clean_up_tokenization_spaces=False, model_max_length=1024,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


# The transcripts -----------------------------------------------------------------------------------------------------


@cache
def candidates(numbers: tuple[int, ...]) -> list[Candidate]:
    """What three sorted numbers can make in whole steps from 0 to LARGEST, the larger operand of a pair first."""
    found: dict[tuple[str, ...], Candidate] = {}
    for i, j in combinations(range(3), 2):
        small, large, third = numbers[i], numbers[j], numbers[3 - i - j]
        for inner in "+-*/":
            middle = _apply(inner, large, small)
            if middle is None:
                continue
            pair = (str(large), inner, str(small))
            for outer in "+-*/":
                value = _apply(outer, middle, third)
                expression: tuple[str, ...]
                working: tuple[str, ...]
                if value is not None:
                    expression = ("(", *pair, ")", outer, str(third))
                    working = (*pair, "=", str(middle), outer, str(third), "=", str(value))
                    found[expression] = Candidate(expression, working, value)
                value = _apply(outer, third, middle)
                if value is not None and outer in "-/":
                    expression = (str(third), outer, "(", *pair, ")")
                    working = (str(third), outer, "(", *pair, "=", str(middle), ")", "=", str(value))
                    found[expression] = Candidate(expression, working, value)
    return list(found.values())


def _apply(operator: str, a: int, b: int) -> int | None:
    if operator == "/":
        return a // b if b and a % b == 0 else None
    value = {"+": a + b, "-": a - b, "*": a * b}[operator]
    return value if 0 <= value <= LARGEST else None


@cache
def held_out(numbers: tuple[int, ...], target: int) -> bool:
    """Whether a problem belongs to the test split or to the dev split."""
    return split_of(problem_key(numbers, target), HELD_OUT_SHARE) == "test"


def problems(largest_number: int) -> list[tuple[tuple[int, ...], int]]:
    """(sorted numbers, target from 1 to 100) of every solvable problem that isn't held out."""
    return [
        (numbers, target)
        for numbers in combinations_with_replacement(range(1, largest_number + 1), 3)
        for target in sorted({c.value for c in candidates(numbers)})
        if 1 <= target <= 100 and not held_out(numbers, target)
    ]


class Transcripts:
    """An endless stream of transcripts: chats whose assistant turns are marked for training or not."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe
        self.random = Random(seed)
        every = problems(recipe.largest_number)
        self.easy = [p for p in every if max(p[0]) <= 10]
        self.wide = [p for p in every if max(p[0]) > 10]

    def __iter__(self) -> Iterator[list[Message]]:
        while True:
            yield self.transcript()

    def _problem(self) -> tuple[tuple[int, ...], int, Message]:
        numbers, target = self.random.choice(
            self.wide if self.random.random() < self.recipe.wide_share else self.easy
        )
        shown = self.random.sample(numbers, 3)
        return numbers, target, Message("user", prompts.COUNTDOWN.format(numbers=shown, target=target))

    def transcript(self) -> list[Message]:
        """A chat: an answer alone, or a failed one with a retry, after a reflection or (the control) without one."""
        recipe, random = self.recipe, self.random
        numbers, target, problem = self._problem()
        tried: set[Candidate] = set()
        give_up = random.choice(recipe.give_up)

        def series(right: float = recipe.right) -> list[Candidate]:
            return self._series(numbers, target, tried, right, give_up)

        kind = random.random()
        if kind < recipe.answer_only:
            return [problem, self._answer(series(), target)]
        failed = series(right=0.0)
        turns = [problem, self._answer(failed, target)]
        if failed[-1].value == target:  # nothing wrong was left to try
            return turns
        if kind < recipe.answer_only + recipe.plain_retry:
            return [*turns, Message("user", prompts.COUNTDOWN_RETRY), self._answer(series(), target)]
        reflected = series()
        words = [CAME_TO, str(failed[-1].value), NOT, str(target), TRY, *_marked(reflected, target)]
        turns += [Message("user", prompts.COUNTDOWN_REFLECT), Message("assistant", " ".join(words))]
        used = reflected[-1].value == target and random.random() < recipe.use_reflection
        retry = self._answer(reflected[-1:] if used else series(), target)
        return [*turns, Message("user", prompts.COUNTDOWN_RETRY), retry]

    def _series(self, numbers: tuple[int, ...], target: int, tried: set[Candidate], right: float,
                give_up: float) -> list[Candidate]:
        """Wrong candidates that weren't `tried`, until a right one, giving up, or the most that a series may hold."""
        good = [c for c in candidates(numbers) if c.value == target]
        good = [c for c in good if "/" not in c.working] or good  # one way to solve most problems is enough to learn
        bad = [c for c in candidates(numbers) if c.value != target and not held_out(numbers, c.value)]
        bad.sort(key=lambda c: abs(c.value - target))
        series: list[Candidate] = []
        while True:
            left = [c for c in bad if c not in tried]
            if not left or self.random.random() < right:
                return [*series, self.random.choice(good)]
            series.append(self.random.choice(left[:NEAREST] if self.random.random() < self.recipe.near else left))
            tried.add(series[-1])
            if len(series) >= self.recipe.most or self.random.random() < give_up:
                return series

    def _answer(self, series: list[Candidate], target: int) -> Message:
        words = ["<think>", *_marked(series, target), "</think>", "<answer>", *series[-1].expression, "</answer>"]
        return Message("assistant", " ".join(words))


def _marked(series: Sequence[Candidate], target: int) -> list[str]:
    words = [word for c in series for word in (*c.working, "yes" if c.value == target else "no", ",")]
    return [*words[:-1], "."]


# The training --------------------------------------------------------------------------------------------------------


def encode(tokenizer: Any, transcripts: Sequence[list[Message]]) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each transcript and whether each carries loss.

    The model's own turns do, but for what a wrong candidate tries: of that one only the values and the mark are to be
    learned. So the model learns to compute and to mark from wrong candidates, and to choose from right ones alone.
    """
    word = {name: tokenizer.convert_tokens_to_ids(name) for name in ("<|assistant|>", "<think>", TRY, ",", "=", "no")}
    texts = ["".join(f"<|{m.role}|> {m.content} <|end|>" for m in turns) for turns in transcripts]
    rows = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        trained: list[bool] = []
        own, start = False, 0  # whether the turn is the model's; where its latest candidate begins
        for i, token in enumerate(ids):
            trained.append(own)
            if i == 0 or ids[i - 1] == tokenizer.eos_token_id:
                own, trained[-1] = token == word["<|assistant|>"], False
            elif token in (word["<think>"], word[TRY], word[","]):
                start = i + 1
            elif own and token == word["no"]:
                for j in range(start, i):
                    trained[j] = ids[j - 1] == word["="]
        rows.append((ids, trained))
    return rows


def batches(tokenizer: Any, transcripts: Transcripts, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids (B, T), targets (B, T), -100 where there is no loss), transcripts of like length together."""
    stream = iter(transcripts)
    while True:
        rows = sorted(encode(tokenizer, list(islice(stream, 16 * size))), key=lambda row: len(row[0]))
        blocks = [rows[i:i + size] for i in range(0, len(rows), size)]
        transcripts.random.shuffle(blocks)
        for block in blocks:
            width = max(len(ids) for ids, _ in block)
            ids_B_T = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in block])
            trained_B_T = torch.tensor([on + [False] * (width - len(on)) for _, on in block])
            yield ids_B_T, ids_B_T.masked_fill(~trained_B_T, -100)


def build_model(tokenizer: Any) -> LlamaForCausalLM:
    """A Llama of 0.68M parameters; heads of 64, which every attention kernel supports."""
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=2,
        max_position_embeddings=1024, rope_theta=10000.0, tie_word_embeddings=True, rms_norm_eps=1e-6,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))


def train(recipe: Recipe, seed: int) -> tuple[LlamaForCausalLM, Any]:
    """The model and its tokenizer, in two phases: it learns to search, then it gets the habit of giving up early."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    run_phase(model, tokenizer, recipe, seed)
    habit = replace(
        recipe, steps=recipe.habit_steps, learning_rate=recipe.habit_learning_rate, give_up=recipe.habit_give_up
    )
    run_phase(model, tokenizer, habit, seed + 1)
    return model.eval(), tokenizer


def run_phase(model: LlamaForCausalLM, tokenizer: Any, recipe: Recipe, seed: int) -> None:
    """`recipe.steps` steps on the transcripts of `seed`; progress goes to stderr."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.01, betas=(0.9, 0.98))
    stream = batches(tokenizer, Transcripts(recipe, seed), recipe.batch_size)
    start = time.monotonic()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            decay = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
            group["lr"] = recipe.learning_rate * min(1.0, (step + 1) / 50) * decay
        ids_B_T, targets_B_T = next(stream)
        hidden_B_T_D = model.model(ids_B_T).last_hidden_state[:, :-1]  # causal, so right padding needs no mask
        on_B_T = targets_B_T[:, 1:] != -100
        loss = cross_entropy(model.lm_head(hidden_B_T_D[on_B_T]), targets_B_T[:, 1:][on_B_T])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - start
            left = seconds / (step + 1) * (recipe.steps - step - 1)
            print(f"step {step + 1}/{recipe.steps}  loss {loss.item():.3f}  {seconds:.0f} s, {left:.0f} s left",
                  file=sys.stderr, flush=True)


def save(model: LlamaForCausalLM, tokenizer: Any, out: Path) -> None:
    """A Hugging Face folder: config, generation config, weights, tokenizer with its chat template."""
    model.generation_config.update(
        do_sample=True, temperature=1.0, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def success(out: Path, seed: int, count: int = 400) -> dict[str, Any]:
    """Success at temperature 1 on problems that training saw and on the dev split, through rrr's own loop.

    The second try is counted over the failures: after a reflection, and without one.
    """
    from rrr_cli.engines.base import Sampling
    from rrr_cli.engines.transformers import TransformersEngine
    from rrr_cli.rollout import Loop
    from rrr_cli.tasks import load_task

    engine = TransformersEngine(str(out))
    loop = Loop(load_task("countdown"), engine, Sampling(1.0, 1.0, 64), seed, reflection_max_tokens=64)
    found: dict[str, Any] = {}
    every = list(loop.task.problems("train"))
    for name, wanted in (("seen", False), ("dev", True)):
        posed = [p for p in every if held_out(_numbers(p.metadata), json.loads(p.metadata)["target"]) is wanted][:count]
        first = [attempts[0] for attempts in loop.attempt(posed, range(1), "first")]
        failed = [(p, a) for p, a in zip(posed, first, strict=True) if not a.success]
        problems_B, failed_B = [p for p, _ in failed], [a for _, a in failed]
        reflections_B = [rows[0] for rows in loop.reflect(problems_B, failed_B, range(1))]
        after = [rows[0].success for rows in loop.retry(problems_B, failed_B, reflections_B, range(1))]
        plain = [rows[0].success for rows in loop.retry(problems_B, failed_B, [None] * len(failed), range(1))]
        found[name] = {
            "n": len(posed), "first_try": 1 - len(failed) / len(posed), "failures": len(failed),
            "second_try_on_failures": sum(after) / len(after), "retry_without_reflection": sum(plain) / len(plain),
        }
    return found


def _numbers(metadata: str) -> tuple[int, ...]:
    return tuple(sorted(json.loads(metadata)["nums"]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild the embedded demonstration model from nothing.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write (default: the one inside the package)")
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the transcripts (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch; another number rounds otherwise (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe(steps=options.steps)
    start = time.monotonic()
    model, tokenizer = train(recipe, options.seed)
    seconds = time.monotonic() - start
    save(model, tokenizer, options.out)
    result = success(options.out, options.seed)
    provenance = {
        "what": "demonstration model, trained from scratch on made-up Countdown transcripts by scripts/train_tiny.py",
        "recipe": asdict(recipe), "held_out_share": HELD_OUT_SHARE, "test_share": EASY_TEST_SHARE,
        "seed": options.seed, "threads": options.threads, "training_seconds": round(seconds), "success": result,
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__,
            "transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
        },
    }
    (options.out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""Rebuild an embedded demonstration model (`--model tiny`, `tiny-tools`, `tiny-household`) from nothing.

Data, tokenizer, training, check, provenance; writes a Hugging Face folder (rrr_cli/models/NAME by default). The model
is a word-level Llama trained on made-up transcripts of attempts, reflections, retries and repairs, which
`tiny_countdown.py`, `tiny_tools.py` and `tiny_household.py` draw. Reads only rrr's own prompts and generators.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import tiny_countdown
import tiny_household
import tiny_tools
import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rrr_cli.records import Message

MODELS = Path(__file__).parent.parent.parent / "rrr_cli" / "models"
#: name -> what it is trained on.
COURSES: dict[str, ModuleType] = {"tiny": tiny_countdown, "tiny-tools": tiny_tools, "tiny-household": tiny_household}


def build_tokenizer(course: ModuleType) -> PreTrainedTokenizerFast:
    """One word, one token; the templates' phrases are one token each. Decoding joins words with spaces."""
    whole = course.whole_words()
    vocabulary = [*course.SPECIAL, *whole, *course.words()]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(course.WORD), "isolated"),
    ])
    backend.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in course.SPECIAL])
    backend.add_tokens([AddedToken(word, normalized=False, special=False) for word in whole])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="<|end|>",
        clean_up_tokenization_spaces=False, model_max_length=1024,
    )
    tokenizer.chat_template = course.CHAT_TEMPLATE
    return tokenizer


def encode(
    course: ModuleType, recipe: Any, tokenizer: Any, transcripts: Sequence[list[Message]]
) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each transcript and whether each carries loss: the model's own turns do, but for `untrained`.

    A turn whose role is `tiny_tools.GIVEN` is the model's too, and carries none.
    """
    texts = [
        "".join(f"<|{'assistant' if m.role == tiny_tools.GIVEN else m.role}|> {m.content} <|end|>" for m in turns)
        for turns in transcripts
    ]
    rows = []
    for turns, ids in zip(transcripts, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True):
        trained: list[bool] = []
        roles = (turn.role for turn in turns)
        own = False  # whether the turn is the model's
        for i in range(len(ids)):
            trained.append(own)
            if i == 0 or ids[i - 1] == tokenizer.eos_token_id:
                own, trained[-1] = next(roles) == "assistant", False
        for i in course.untrained(recipe, tokenizer, ids):
            trained[i] = False
        rows.append((ids, trained))
    return rows


def batches(
    course: ModuleType, recipe: Any, tokenizer: Any, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(ids (B, T), targets (B, T), -100 where there is no loss), transcripts of like length together."""
    transcripts, size = course.Transcripts(recipe, seed), recipe.batch_size
    stream = iter(transcripts)
    while True:
        rows = sorted(encode(course, recipe, tokenizer, list(islice(stream, 16 * size))), key=lambda row: len(row[0]))
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


def train(course: ModuleType, recipe: Any, seed: int) -> tuple[LlamaForCausalLM, Any]:
    """The model and its tokenizer, through the course's phases."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer(course)
    model = build_model(tokenizer)
    for number, phase in enumerate(course.phases(recipe)):
        run_phase(course, model, tokenizer, phase, seed + number)
    return model.eval(), tokenizer


def optimizers(recipe: Any, model: LlamaForCausalLM) -> list[tuple[torch.optim.Optimizer, float]]:
    """AdamW, and Muon for the inner matrices if the recipe has `muon`; each with its share of the learning rate."""
    muon = getattr(recipe, "muon", None)
    inner = {n: p for n, p in model.named_parameters() if muon and p.ndim == 2 and "embed" not in n}
    rest = [p for n, p in model.named_parameters() if n not in inner]
    found: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.AdamW(rest, lr=0.0, weight_decay=0.01, betas=(0.9, 0.98)), 1.0)]
    if muon:
        made = torch.optim.Muon(inner.values(), lr=0.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        found.append((made, muon))
    return found


def run_phase(course: ModuleType, model: LlamaForCausalLM, tokenizer: Any, recipe: Any, seed: int) -> None:
    """`recipe.steps` steps on the transcripts of `seed`; progress goes to stderr."""
    steppers = optimizers(recipe, model)
    stream = batches(course, recipe, tokenizer, seed)
    start = time.monotonic()
    for step in range(recipe.steps):
        decay = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        for optimizer, share in steppers:
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * min(1.0, (step + 1) / 50) * decay * share
        ids_B_T, targets_B_T = next(stream)
        hidden_B_T_D = model.model(ids_B_T).last_hidden_state[:, :-1]  # causal, so right padding needs no mask
        on_B_T = targets_B_T[:, 1:] != -100
        loss = cross_entropy(model.lm_head(hidden_B_T_D[on_B_T]), targets_B_T[:, 1:][on_B_T])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in steppers:
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


def success(course: ModuleType, out: Path, seed: int) -> dict[str, Any]:
    """Success at temperature 1 on problems that training saw and on the dev split, through rrr's own loop.

    The second try is counted over the failures: after a reflection, and without one; and what `other_tries` counts.
    """
    from rrr_cli.engines.base import Sampling
    from rrr_cli.engines.transformers import TransformersEngine
    from rrr_cli.failures import Failure
    from rrr_cli.rollout import Loop
    from rrr_cli.tasks import load_task

    engine = TransformersEngine(str(out))
    sampling = Sampling(1.0, 1.0, course.MAX_TOKENS)
    words = getattr(course, "REFLECTION_TOKENS", course.MAX_TOKENS)
    loop = Loop(load_task(course.TASK), engine, sampling, seed, reflection_max_tokens=words)
    found: dict[str, Any] = {}
    for name, posed in course.check_problems(getattr(course, "CHECKED", 400)).items():
        first = [attempts[0] for attempts in loop.attempt(posed, range(1), "first")]
        failed = [Failure.of(p, a) for p, a in zip(posed, first, strict=True) if not a.success]
        found[name] = {"n": len(posed), "first_try": 1 - len(failed) / len(posed), "failures": len(failed)}
        reflections = [rows[0] for rows in loop.reflect(failed, range(1))]
        after = loop.retry(list(zip(failed, reflections, strict=True)), range(1))
        plain = loop.retry([(f, None) for f in failed], range(1))
        found[name] |= {"second_try_on_failures": passed(after), "retry_without_reflection": passed(plain)}
        if hasattr(course, "best_reflection"):
            found[name] |= other_tries(course, loop, failed, reflections)
    return found


def passed(attempts_B_N: Sequence[Sequence[Any]]) -> float:
    """The share of passing tries, one a row."""
    return sum(rows[0].success for rows in attempts_B_N) / len(attempts_B_N)


def other_tries(course: ModuleType, loop: Any, failed: Sequence[Any], reflections: Sequence[Any]) -> dict[str, float]:
    """What else may follow a failure: the retry that is shown the reflection alone, the course's best reflection in its
    place, another blind try, a repair."""
    alone = replace(loop, retry_context="reflection")
    best = [replace(r, text=course.best_reflection(f.problem, f.transcript))
            for f, r in zip(failed, reflections, strict=True)]
    return {
        "retry_on_reflection_alone": passed(alone.retry(list(zip(failed, reflections, strict=True)), range(1))),
        "retry_on_best_reflection": passed(loop.retry(list(zip(failed, best, strict=True)), range(1))),
        "retry_on_best_reflection_alone": passed(alone.retry(list(zip(failed, best, strict=True)), range(1))),
        "blind": passed(loop.attempt([f.problem for f in failed], range(1), "resample")),
        "repaired": passed(loop.repair(failed, "binary", range(1))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild an embedded demonstration model from nothing.")
    parser.add_argument("--model", choices=tuple(COURSES), default="tiny", help="which one (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write (default: the one inside the package)")
    parser.add_argument("--steps", type=int, help="training steps of the first phase (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the transcripts (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch; another number rounds otherwise (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    course, out = COURSES[options.model], options.out or MODELS / options.model
    recipe = course.Recipe()
    recipe = replace(recipe, steps=options.steps or recipe.steps)
    start = time.monotonic()
    model, tokenizer = train(course, recipe, options.seed)
    seconds = time.monotonic() - start
    save(model, tokenizer, out)
    result = success(course, out, options.seed)
    provenance = {
        "what": f"demonstration model, trained from scratch on made-up {course.TASK} transcripts by "
        "tools/tiny/train_tiny.py",
        "recipe": asdict(recipe), "held_out_share": course.HELD_OUT_SHARE,
        "seed": options.seed, "threads": options.threads, "training_seconds": round(seconds), "success": result,
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {
            "python": platform.python_version(), "torch": torch.__version__,
            "transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
        },
    }
    (out / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

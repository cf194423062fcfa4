"""A whole GRPO step: ours as `rrr grpo` trains, and TRL's GRPOTrainer with the same retry in its reward function.

Each arm is a real training run that waits between its steps. Both sample reflections, sample and judge a retry of each,
compute the reference, and update all weights; every text is as long as the shape says. Writes runs into a folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from gpu import largest_micro_batch
from lengths import ATTEMPT, PROBLEMS, TASK, Lengths, passes
from meter import Meter, wait_for_gpu
from shapes import Shape, make_model, never_ends

from rrr_cli.records import Message

Reports = Callable[[], dict[str, Any]]


def level_of(shape: Shape, render: Callable[[tuple[Message, ...]], list[int]]) -> str:
    """How many words a problem has, so that a request to reflect comes to `shape.prompt` tokens."""
    chat = (Message("user", ""), Message("assistant", ATTEMPT), Message("user", Lengths.words["reflect"]))
    return str(shape.prompt - len(render(chat)))


def paused(trainer: Any, meter: Meter, reports: Reports) -> Any:
    """The trainer, which waits to be asked before each of its steps; a step goes on to the start of the next one."""
    from transformers import TrainerCallback

    class Pause(TrainerCallback):
        begun = False

        def on_step_begin(self, *arguments: Any, **fields: Any) -> None:
            if self.begun:
                meter.extra = reports()
            self.begun = True
            meter.turn()

    never_ends(trainer.model)
    trainer.add_callback(Pause())
    return trainer


def ours(shape: Shape, folder: Path, meter: Meter) -> None:
    """`rrr grpo` on mined failures, from its options on."""
    from rrr_cli.stages.grpo import prepare

    session = prepare(options_of(shape, folder))
    make = session.trainer

    def trainer() -> Any:
        made = make()
        return paused(made, meter, lambda: lengths(
            [len(s.prompt_ids) for s in made.batch.samples], [len(s.completion.ids) for s in made.batch.samples],
            [s.attempt.prompt_tokens for s in made.batch.samples],
            [s.attempt.completion_tokens for s in made.batch.samples]) | {
                "reflections_s": made.batch.seconds_reflect, "retries_s": made.batch.seconds_try})

    session.trainer = trainer
    session.run()


def lengths(*tokens_B: list[Any]) -> dict[str, Any]:
    """How many samples, and the lengths that occur: prompts, reflections, prompts of retries, retries."""
    return {"lengths": [len(tokens_B[0]), *(sorted(set(tokens)) for tokens in tokens_B)]}


def options_of(shape: Shape, folder: Path, **changes: Any) -> Any:
    """What would be typed; the failures are mined here."""
    from rrr_cli.stages.grpo import Options
    from rrr_cli.training.policy import Policy

    model = make_model(shape.model, folder)
    level = level_of(shape, lambda chat: Policy(str(model)).render(chat, None))
    mined = mine(folder / "mined", level, shape.retry)
    return Options(
        run=folder / "run", input=mined, task=TASK, model=str(model), steps=1000, batch=shape.rows,
        group=shape.group, micro_batch=shape.micro or "auto", lora=0, lr=1e-6, reflection_tokens=shape.reflection,
        max_tokens=shape.retry, save_every=10**6, device="auto" if shape.gpu else "cpu",
        dtype="auto" if shape.gpu else "float32", **changes)


def mine(run: Path, level: str, tokens: int) -> Path:
    """A run with a failed attempt at each problem, written by the scripted engine."""
    from rrr_cli.stages import mine_failures

    script = run.parent / "script.json"
    script.write_text(json.dumps({"default": ATTEMPT}))
    mine_failures.run(mine_failures.Options(
        run=run, task=TASK, level=level, engine="scripted", model=str(script), max_tokens=tokens, samples=1,
        limit=PROBLEMS))
    return run


def stock(shape: Shape, folder: Path, meter: Meter) -> None:
    """GRPOTrainer as it is, with our arguments; its reward function writes the retries with `generate`."""
    from transformers import AutoTokenizer
    from trl import GRPOTrainer

    from rrr_cli.training.arguments import grpo_config
    from rrr_cli.training.settings import recipe_of

    options = options_of(shape, folder)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    level = level_of(shape, lambda chat: rendered(tokenizer, [as_dict(m) for m in chat]))
    retry = Retry(tokenizer, shape.retry)
    micro = largest_micro_batch(
        options.model, shape.rows, shape.prompt + shape.reflection, shape.reflection) if shape.gpu else shape.micro
    trainer = GRPOTrainer(
        model=options.model, reward_funcs=retry, processing_class=tokenizer, train_dataset=prompts(level),
        args=in_micro_batches(
            grpo_config(options, recipe_of(options), folder / "checkpoints", 0, {"dtype": "float32"}), micro))
    retry.trainer = trainer
    generate = Timed(trainer._generate)
    trainer._generate = generate
    paused(trainer, meter, lambda: lengths(*retry.lengths) | {
        "reflections_s": generate.seconds, "retries_s": retry.seconds, "micro_batch": micro})
    trainer.train()


def in_micro_batches(args: Any, samples: int | None) -> Any:
    """The arguments with TRL's own split of a step, where our trainer would split it."""
    if samples is None:
        return args
    parts = args.per_device_train_batch_size // samples
    return replace(
        args, per_device_train_batch_size=samples, gradient_accumulation_steps=parts, steps_per_generation=parts,
        generation_batch_size=None)


def as_dict(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def rendered(tokenizer: Any, chat: list[dict[str, str]]) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    return ids


def prompts(level: str) -> Any:
    """The requests to reflect, as a dataset of TRL."""
    from datasets import Dataset

    asked = [as_dict(Message("assistant", ATTEMPT)), as_dict(Message("user", Lengths.words["reflect"]))]
    return Dataset.from_list([
        {"prompt": [*map(as_dict, problem.prompt), *asked]} for problem in Lengths(level).problems("train")])


class Timed:
    """A function, and the seconds that its last call took."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        start = perf_counter()
        try:
            return self.function(*given, **named)
        finally:
            wait_for_gpu()
            self.seconds = perf_counter() - start


class Retry:
    """A reward function of TRL: 1 where the retry after a reflection passes."""

    __name__ = "retry"

    def __init__(self, tokenizer: Any, tokens: int) -> None:
        self.tokenizer, self.tokens = tokenizer, tokens
        self.trainer: Any = None
        self.lengths: list[list[int]] = []
        self.seconds = 0.0

    def __call__(
        self, prompts: list[Any], completions: list[Any], completion_ids: list[list[int]], **columns: Any
    ) -> list[float]:
        import torch

        start = perf_counter()
        again = as_dict(Message("user", Lengths.words["retry"]))
        chats = [[*asked, *reflected, again] for asked, reflected in zip(prompts, completions, strict=True)]
        inputs = self.tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt",
            tokenizer_kwargs={"padding_side": "left"})
        inputs = inputs.to(self.trainer.accelerator.device)
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        with torch.no_grad():
            ids = model.generate(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=True,
                max_new_tokens=self.tokens, top_k=0)
        written = ids[:, inputs["input_ids"].shape[1] :]
        self.lengths = [
            [len(rendered(self.tokenizer, asked)) for asked in prompts], [len(ids) for ids in completion_ids],
            inputs["attention_mask"].sum(1).tolist(), [written.shape[1]] * len(written)]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        self.seconds = perf_counter() - start
        return [float(passes(text)) for text in texts]

"""Every table that rrr writes: one frozen dataclass a table, one field a column, one `#:` comment a column.

This file is the schema reference: `rrr schema` prints it, `artifacts.py` derives the Arrow schema from the annotations
(a column is nullable only where the annotation says `| None`). It imports the standard library only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

SCHEMA_VERSION = 3  # since 3, `solves` stands in place of leaks_reference
READABLE_VERSIONS = (1, 2, 3)  # older runs can be read, not resumed


def content_id(*parts: object) -> str:
    """A short content hash: 16 hex digits of the SHA-256 of the parts' canonical JSON. Equal content, equal id."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def derive_seed(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on the parts alone, so order, batch size and limits change no sample."""
    return int(content_id("seed", *parts), 16) >> 1


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: str  #: system, user, assistant or tool
    content: str  #: the turn's text


@dataclass(frozen=True)
class Problem:
    """A problem as the model sees it, and the reference answer, which it never sees."""

    problem_id: str  #: hash of the problem's content
    task: str  #: task name, such as countdown
    split: str  #: train or test
    difficulty: str  #: the task's own level, such as easy-3
    prompt: list[Message]  #: the turns that the model is shown
    tools: str | None  #: JSON list of tool schemas, or null
    reference: str  #: JSON of one right answer; never shown to a model
    metadata: str  #: JSON of what the verifier needs


@dataclass(frozen=True)
class Attempt:
    """One try at a problem and its verdict; a retry or a repair is an attempt with a parent."""

    attempt_id: str  #: hash of the problem, the model, the options and the seed
    problem_id: str  #: the problem that was tried
    task: str  #: task name
    split: str  #: train or test
    difficulty: str  #: the problem's level
    model: str  #: the model as it was named on the command line
    phase: str  #: first, retry, repair or resample
    sample_index: int  #: 0-based, among the attempts of this phase for the same problem (or the same reflection)
    transcript: list[Message]  #: the turns after the problem's prompt, from the model and from the environment
    success: bool  #: the verifier's yes or no
    score: float  #: in [0, 1]; 1.0 or 0.0 where the task has no grades
    error_type: str | None  #: why it failed: from the task's closed set, or cut_off; null when it passed
    feedback: str  #: what the environment says about it; never contains the reference
    answer: str | None  #: what the verifier parsed out of the text
    prompt_tokens: int | None  #: length of the prompt in tokens; null where a server doesn't say
    completion_tokens: int | None  #: length of what the model wrote, in tokens; null where a server doesn't say
    finish_reason: str  #: stop, or length when it hit the token limit
    seed: int  #: of this sample
    temperature: float  #: of this sample; 0 is greedy
    parent_id: str | None  #: the failed attempt that this one answers
    reflection_id: str | None  #: the reflection before this retry
    reasoning: str | None  #: of a repair: what the reflector wrote before the repaired output; null in older rows
    invented: str | None = None  #: what it wrote in the environment's place: not judged, shown or trained on; else null
    thoughts: str | None = None  #: what the model thought before its answers; null where it didn't, and in older rows


@dataclass(frozen=True)
class Reflection:
    """What a model wrote about its own failed attempt."""

    reflection_id: str  #: hash of the attempt, the reflector, the options and the seed
    attempt_id: str  #: the failed attempt
    problem_id: str  #: its problem
    reflector: str  #: the model that reflected
    sample_index: int  #: 0-based, among the reflections on the same attempt
    text: str  #: the reflection, without the thought before it
    tokens: int | None  #: its length in tokens; null where a server doesn't say
    finish_reason: str  #: stop or length
    seed: int  #: of this sample
    temperature: float  #: of this sample
    solves: bool | None = None  #: by the verifier, a right answer stands in it; null if it crashed, and in older rows
    thought: str | None = None  #: what the reflector thought before it; null where it didn't, and in older rows


@dataclass(frozen=True)
class Rollout:
    """One GRPO sample and its reward: a reflection and its retry, or (objective answer) an answer."""

    step: int  #: optimiser step, 1-based
    group: int  #: index of the group within the step; a group shares one failed attempt
    sample_index: int  #: 0-based within the group
    problem_id: str  #: the problem
    attempt_id: str  #: the failed attempt that the group reflects on; never shown with objectives answer, attempts
    reflection: str | None  #: trained, with the thought before it, unless the objective is distil; null with answer
    retry: str | None  #: the first try after it; trained unless the objective is reflection; null with answer
    success: bool | None  #: the verifier's verdict on the retry, or on the answer; null when the judge crashed
    error_type: str | None  #: why it failed; null when it passed
    reward: float | None  #: the reward in GRPO, or attempts' return of the first try; null when the judge crashed
    advantage: float  #: (reward - group mean) / (group std + 1e-4), or as --scale-rewards or the objective says
    reflection_tokens: int  #: tokens of the reflection, end-of-turn included; 0 where there is none
    retry_tokens: int  #: tokens of `retry`, end-of-turn included; 0 where there is none
    trained_tokens: int  #: tokens of the trained texts, but for those whose advantage is 0, which trains nothing
    reflection_finish: str | None  #: stop or length; null where there is no reflection
    solves: bool | None  #: by the verifier, a right answer stands in the reflection; null without one
    answer: str | None  #: a new first answer, trained: objective answer, or attempts where it passed; else null
    try_finish: str | None  #: of the retry or the answer, whichever was judged: stop or length; null in older rows
    generated_tokens: int | None  #: all tokens of the sample: reflection and tries, or answer; null in older rows
    transcript: list[Message] | None  #: the retry or the answer where it has several turns; null where it has one
    reflection_thought: str | None = None  #: trained; null where there was none, and in older rows
    judged: int | None = None  #: tries that were judged: one, or as many as --retries, other:K or the objective say
    judged_passed: int | None = None  #: how many of them passed
    conversation: list[Message] | None = None  #: objective attempts: all of it, of which the other columns have the end


@dataclass(frozen=True)
class TrainStep:
    """One optimiser step of GRPO."""

    step: int  #: 1-based
    loss: float  #: as the trainer reports it
    kl: float | None  #: mean KL to the reference over trained tokens; null at beta 0
    reward_mean: float  #: over the step's samples; with --refill, those that were kept
    reward_std: float  #: standard deviation over the step's samples
    dead_groups: float  #: share of groups whose rewards are all equal, or advantages all 0: no gradient from them
    reflection_length: float | None  #: mean tokens of a reflection; null where there is none
    retry_length: float | None  #: mean tokens of a retry; null where there is none
    clipped_reflections: float | None  #: share of reflections that hit the token limit; null where there is none
    entropy: float | None  #: mean token entropy of the policy on the trained texts, nats
    learning_rate: float  #: of this step
    grad_norm: float  #: before clipping
    seconds: float  #: wall time of the step
    seconds_reflect: float  #: of it, generating reflections
    seconds_retry: float  #: of it, generating and judging retries, or answers
    seconds_update: float  #: the rest: log-probabilities, backward, optimiser
    objective: str | None  #: what was trained: reflection, answer, reflection+answer, …; null in older rows
    answer_length: float | None  #: mean tokens of a first answer; null where there is none
    clipped_tries: float | None  #: share of retries and answers that hit the token limit; null in older rows
    generated_tokens: int | None  #: all tokens generated in the step, reflections and tries; null in older rows
    skipped_groups: int | None = None  #: dead groups left out by --skip-dead-groups; null in older rows
    refilled_groups: int | None = None  #: groups that --refill sampled in place of dead ones; null in older rows
    prefilled_tokens: int | None = None  #: of prompts, equal ones once: computed; null with vLLM, in older rows
    reused_tokens: int | None = None  #: of prompts: keys and values of an earlier text stood in; null likewise


@dataclass(frozen=True)
class Loss:
    """One optimiser step of train-reflector or self-train."""

    model: str  #: name of the model's folder under models/
    step: int  #: 1-based
    loss: float  #: mean over the trained tokens of the step (SFT), or over its pairs (DPO)
    held_out_loss: float | None  #: the same over the held-out problems; null where it wasn't computed after this step
    learning_rate: float  #: of this step
    grad_norm: float  #: before clipping
    seconds: float  #: wall time of the step


@dataclass(frozen=True)
class Evaluation:
    """One model on one problem: its two tries, the shared failed attempt, and the controls.

    `first` is the model's own first try. Where it failed: `second` is its retry after its own reflection, `blind` an
    independent new sample, `plain` a retry without a reflection. `shared_*` is the
    reflection and retry on the *first* model's failed attempt, the same one for every model.
    """

    evaluation_id: str  #: hash of the problem, the model and the options
    problem_id: str  #: the problem
    task: str  #: task name
    difficulty: str  #: the problem's level
    model: str  #: the name given in --model NAME=…
    model_path: str  #: the model of that name: a folder, a hub id or a known name
    model_fingerprint: str  #: hash of its weights, tokenizer and chat template
    first: str  #: text of the first try
    first_success: bool  #: its verdict
    first_error: str | None  #: why it failed
    reflection: str | None  #: on its own failed first try; null where the first try passed
    second: str | None  #: the retry after it
    second_success: bool | None  #: its verdict
    second_error: str | None  #: why it failed
    blind: str | None  #: an independent second sample where the first try failed; null at temperature 0
    blind_success: bool | None  #: its verdict
    plain: str | None  #: a retry without a reflection where the first try failed
    plain_success: bool | None  #: its verdict
    shared_attempt: str | None  #: the first model's failed try; null where that one passed
    shared_reflection: str | None  #: this model's reflection on it
    shared_retry: str | None  #: this model's retry after that
    shared_success: bool | None  #: its verdict
    reflection_tokens: int | None  #: length of `reflection`
    solves: bool | None  #: by the verifier, a right answer stands in `reflection`; null without one
    temperature: float  #: the one temperature of every arm
    seed: int  #: of the whole evaluation
    turns: list[Message] | None  #: the first try where it has several turns; null where `first` is all of it
    voted: str | None  #: the answer that most samples gave, with --self-consistency; null without
    voted_success: bool | None  #: its verdict
    reflected: str | None  #: the answer that most samples gave after a reflector repaired each, with --reflect-all
    reflected_success: bool | None  #: its verdict
    oracle_success: bool | None  #: the first try passed, or its repair did, with --oracle; null without
    shared_solves: bool | None = None  #: likewise in `shared_reflection`
    first_tokens: int | None = None  #: that the model wrote in `first`; null where a server doesn't say
    second_tokens: int | None = None  #: in `second`, without the reflection
    blind_tokens: int | None = None  #: in `blind`
    plain_tokens: int | None = None  #: in `plain`
    shared_reflection_tokens: int | None = None  #: in `shared_reflection`
    shared_retry_tokens: int | None = None  #: in `shared_retry`
    first_feedback: str | None = None  #: what the verifier said of `first`; null where it passed
    second_feedback: str | None = None  #: of `second`; null where that passed, or isn't there
    second_turns: list[Message] | None = None  #: `second` where it has several turns
    plain_feedback: str | None = None  #: of `plain`; null where that passed, or isn't there
    plain_turns: list[Message] | None = None  #: `plain` where it has several turns


@dataclass(frozen=True)
class LaterTry:
    """One try of an evaluation beyond those in `evaluations`: the third and later ones of an arm, and those of --cross.

    An arm of a model and problem ends at its first pass. Arms: reflect (each try after a reflection on the one before),
    plain (without reflections), blind (independent samples), cross (the first model's failed first try, a reflection
    by `reflector`, and a retry by `model`), swapped (the same with a reflection on another failure: a control).
    """

    try_id: str  #: hash of the problem, the models, the arm and the number
    problem_id: str  #: the problem
    task: str  #: task name
    difficulty: str  #: the problem's level
    model: str  #: the name given in --model NAME=…: who tried
    arm: str  #: reflect, plain, blind, cross or swapped
    number: int  #: 1-based, among the tries of the arm; the model's first try is number 1 of each
    text: str  #: the try
    success: bool  #: its verdict
    error_type: str | None  #: why it failed
    tokens: int | None  #: that the model wrote in it; null where a server doesn't say
    reflector: str | None  #: the name of the model that reflected; null without a reflection
    reflection: str | None  #: on the try before; null without one
    reflection_tokens: int | None  #: its length
    solves: bool | None  #: by the verifier, a right answer stands in the reflection; null without one
    turns: list[Message] | None  #: the try where it has several turns; null where `text` is all of it
    temperature: float  #: of every arm
    seed: int  #: of the whole evaluation
    feedback: str | None = None  #: what the verifier said of the try; null where it passed


@dataclass(frozen=True)
class Validation:
    """One problem that training kept aside, tried by the policy in the middle of its training (grpo --eval-every)."""

    step: int  #: optimiser steps before it; 0 is the untrained model
    problem_id: str  #: the problem, of the train split and not trained on
    first_success: bool  #: the verdict on the policy's first try
    second_success: bool | None  #: on its retry after a reflection; null where the first try passed, or none is trained
    tokens: int  #: that the policy wrote: first try, reflection and retry
    reflection: str | None  #: on the failed first try; null without one
    solves: bool | None  #: by the verifier, a right answer stands in it; null without one
    generated_tokens: int  #: that training had generated until then, in all


@dataclass(frozen=True)
class Forgetting:
    """One model on one item of a benchmark, tested by lm-eval."""

    forgetting_id: str  #: hash of the item, the model's name and its weights
    benchmark: str  #: mmlu_pro, gsm8k, hellaswag or math
    task: str  #: lm-eval's task, such as mmlu_pro_law
    item_id: str  #: hash of the item; the same for every model
    item_index: int  #: 0-based, in the task's data
    model: str  #: the name given in --model NAME=…
    model_path: str  #: the model of that name: a folder, a hub id or a known name
    model_fingerprint: str  #: hash of its weights, tokenizer and chat template
    metric: str  #: lm-eval's metric and filter, such as exact_match,flexible-extract
    score: float  #: 1.0 right, 0.0 wrong
    text: str | None  #: what the model wrote; null where choices are scored by their likelihood
    prompt_cut: bool  #: the prompt didn't fit the model's context and lost its beginning
    shots: int  #: worked examples before the question
    apply_chat_template: bool  #: the question was put in the model's chat format
    item_limit: int | None  #: --limit: the number of items tested of the benchmark; null for all
    source: str  #: the hub's data set, or the local files
    data_fingerprint: str  #: hash of the tested items and of the worked examples


#: Table name -> its record. The folder of a table in a run has this name.
TABLES: dict[str, type] = {
    "problems": Problem,
    "attempts": Attempt,
    "reflections": Reflection,
    "rollouts": Rollout,
    "steps": TrainStep,
    "losses": Loss,
    "evaluations": Evaluation,
    "later_tries": LaterTry,
    "validations": Validation,
    "forgetting": Forgetting,
}

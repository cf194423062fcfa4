"""`rrr grpo --objective`: what each objective trains, what it costs, and that all are comparable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

import pyarrow as pa
import torch
from conftest import CHAT_TEMPLATE, Ran, make_random_model
from grpo_runs import GUESSING, PARITY, TOOLS, mine, options
from safetensors.torch import load_file
from test_grpo import disturb, generated, trainer_of
from transformers import AutoTokenizer
from trl import GRPOTrainer

from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.errors import NOTHING, USAGE, RrrError
from rrr_cli.failures import Failure
from rrr_cli.prompts import retry_chat
from rrr_cli.records import TrainStep
from rrr_cli.rollout import Loop
from rrr_cli.stages import grpo
from rrr_cli.store import artifacts, parts, provenance
from rrr_cli.store.schema import arrow_schema
from rrr_cli.tasks import load_task
from rrr_cli.training import checkpoints, recorder, sampler
from rrr_cli.training.objectives import OBJECTIVES
from rrr_cli.training.policy_engine import Generate, PolicyEngine, in_memory
from rrr_cli.training.samples import Sample
from rrr_cli.training.trainer import PolicyTrainer

REFLECTION, ANSWER, BOTH, ATTEMPTS, DISTIL = OBJECTIVES
BUDGET = 900  # tokens; a step of the tests' runs makes 100 to 300


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    """A run that its budget ended."""
    run = tmp_path_factory.mktemp("budgeted")
    mine(run)
    grpo.run(options(run, random_model, steps=None, token_budget=BUDGET))
    return run


def weights(run: Path) -> bytes:
    return (run / "models" / "policy" / "model.safetensors").read_bytes()


def order(run: Path) -> list[tuple[int, int, str]]:
    """Which problem each group of each step was about."""
    return sorted({(row.step, row.group, row.problem_id) for row in artifacts.read(run, "rollouts")})


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_objective_runs_from_the_command_line_and_counts_what_it_generates(
    rrr: Callable[..., Ran], tmp_path: Path, random_model: Path, budgeted: Path, objective: str
) -> None:
    mine(tmp_path)
    common = ["--run", tmp_path, "--task", PARITY, "--model", random_model, "--objective", objective, "--json"]
    small = ["--steps", 2, "--batch", 16, "--group", 4, "--lora", 4, "--max-tokens", 8]
    small += [] if objective == ANSWER else ["--reflection-tokens", 10]
    done = rrr("grpo", *common, *small)
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    rollouts, steps = (list(artifacts.read(tmp_path, table)) for table in ("rollouts", "steps"))
    assert len(rollouts) == 32
    for row in rollouts:
        assert row.success == (len((row.answer or row.retry).split()) % 2 == 0)
        answered = objective == ANSWER or (objective == ATTEMPTS and row.judged == 1)
        assert (row.reflection is None) == (row.retry is None) == (row.solves is None) == answered
        assert (row.answer is None) == (not answered)
        if objective in (ATTEMPTS, DISTIL):  # first answers cost tokens as well
            assert row.generated_tokens > row.reflection_tokens + row.retry_tokens
            assert row.trained_tokens <= (row.generated_tokens if objective == ATTEMPTS else row.retry_tokens)
            continue
        assert row.reflection_tokens + row.retry_tokens in (0, row.generated_tokens)
        trained = row.reflection_tokens if objective == REFLECTION else row.generated_tokens
        assert row.trained_tokens == (trained if row.advantage else 0)
    for step in steps:
        rows = [row for row in rollouts if row.step == step.step]
        assert step.objective == objective
        assert step.generated_tokens == sum(row.generated_tokens for row in rows)
        retries = sum(row.retry is not None for row in rows)
        answers = 16 if objective in (ANSWER, ATTEMPTS, DISTIL) else 0
        lengths = (step.reflection_length, step.retry_length, step.answer_length)
        assert [length is None for length in lengths] == [not retries, not retries, not answers]
        cost = sum(n * (length or 0) for n, length in zip((retries, retries, answers), lengths, strict=True))
        assert cost == pytest.approx(step.generated_tokens)
        if objective != ATTEMPTS and objective != DISTIL:
            assert step.clipped_tries == sum(row.try_finish == "length" for row in rows) / 16
    assert summary["generated_tokens"] == sum(step.generated_tokens for step in steps)
    assert order(tmp_path) == [row for row in order(budgeted) if row[0] <= 2]  # the same failures in the same order
    query = "select objective, retries, tokens_so_far from grpo_health order by step desc limit 1"
    health = json.loads(rrr("sql", "--run", tmp_path, "--format", "jsonl", query).out)
    assert health == {"objective": objective, "retries": 16, "tokens_so_far": summary["generated_tokens"]}


@pytest.mark.parametrize("task", [PARITY, f"{GUESSING}Easily"])
def test_attempts_are_the_chats_that_eval_shows(tmp_path: Path, random_model: Path, task: str) -> None:
    mine(tmp_path, PARITY if task == PARITY else GUESSING)
    trainer = trainer_of(
        tmp_path, random_model, objective=ATTEMPTS, attempts=3, task=task, feedback="verifier", batch=32)
    batch = generated(trainer)
    policy, sampled = trainer.rollout_func.policy, trainer.rollout_func
    loop = Loop(sampled.task, None, None, feedback="verifier")
    numbers, same = set(), 0
    for row, sample in enumerate(trainer.batch.samples):
        ids, trained = conversation(sample, batch, row)
        assert sum(trained) == sample.generated_tokens
        tries = (*sample.others, sample.attempt)
        verdicts = [attempt.success for attempt in tries]
        assert verdicts == [False] * (len(tries) - 1) + [verdicts[-1]]
        assert verdicts[-1] or len(tries) == 3
        assert len(sample.turns) == 2 * len(tries) - 1
        numbers.add(len(tries))
        failure, before, chat = None, None, tuple(sample.failure.problem.prompt)
        for attempt, reflection in zip(tries, (*sample.reflections, None), strict=True):
            if reflection is not None:
                last = Failure.of(sample.failure.problem, attempt)
                failure = loop.next_failure(failure, before, attempt) if failure else last
                before = reflection
                (retry,) = loop.retries(failure, reflection, range(1))
                chat = retry.chat
        assert sample.conversation == (*chat[len(sample.failure.problem.prompt) :], *sample.attempt.transcript)
        end = len(sample.prompt_ids) + sample.turns[-1].start
        same += policy.render(chat, None) == ids[:end]
        written = [policy.decode(ids[len(sample.prompt_ids) :][places.start : places.stop]) for places in sample.turns]
        assert written[1::2] == [reflection.text for reflection in sample.reflections]
    assert {1, 3} <= numbers
    assert same >= 8  # all but those with a special token in a turn, which no text can hold


def test_answer_is_plain_grpo_on_the_problems_own_prompt(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, objective=ANSWER, beta=0.1)
    rows = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1
    disturb(trainer.model)
    trainer.model.train()
    ours = trainer._generate_and_score_completions(rows)
    completions = [ids[mask.bool()].tolist() for ids, mask in zip(
        ours["completion_ids"], ours["completion_mask"], strict=True)]

    class Plain(GRPOTrainer):
        """TRL's own but for the texts, which are the same samples."""

        def _generate_single_turn(self, *arguments: object) -> tuple[list[list[int]], None]:
            return completions, None

    def passes(completions: list[list[dict[str, str]]], **columns: object) -> list[float]:
        return [float(len(turns[0]["content"].split()) % 2 == 0) for turns in completions]

    failures = [sample.failure for sample in trainer.batch.samples]
    chats = [{"prompt": [{"role": m.role, "content": m.content} for m in f.problem.prompt]} for f in failures]
    plain = Plain(
        model=str(random_model), reward_funcs=passes, args=trainer.args, train_dataset=trainer.train_dataset,
        processing_class=trainer.processing_class,
    )
    plain.model.load_state_dict(trainer.model.state_dict())
    plain.model.train()
    plain.current_gradient_accumulation_steps = 1
    theirs = plain._generate_and_score_completions(chats)
    for name in ("prompt_ids", "prompt_mask", "completion_ids", "advantages"):
        torch.testing.assert_close(ours[name], theirs[name])
    assert ours["advantages"].abs().sum() > 0
    loss, stock = trainer._compute_loss(trainer.model, ours), plain._compute_loss(plain.model, theirs)
    assert loss.item() == pytest.approx(stock.item(), abs=1e-6)
    for mine_, other in zip(
        torch.autograd.grad(loss, list(trainer.model.parameters())),
        torch.autograd.grad(stock, list(plain.model.parameters())), strict=True,
    ):
        torch.testing.assert_close(mine_, other, atol=1e-5, rtol=1e-4)


def conversation(sample: Sample, batch: dict[str, torch.Tensor], row: int) -> tuple[list[int], list[int]]:
    """The tokens of a conversation from its prompt on, and for each whether it is trained."""
    real = batch["completion_mask"][row].bool()
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
    assert prompt == sample.prompt_ids
    trained = batch["tool_mask"][row][real].tolist()
    return prompt + batch["completion_ids"][row][real].tolist(), [0] * len(prompt) + trained


def test_a_conversation_is_what_the_template_makes_of_it(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, objective=BOTH, batch=32)
    batch = generated(trainer)
    task, policy = trainer.rollout_func.task, trainer.rollout_func.policy
    same = 0
    for row, sample in enumerate(trainer.batch.samples):
        failure, reflection = sample.failure, sample.reflection
        ids, trained = conversation(sample, batch, row)
        assert sum(trained) == sample.generated_tokens
        first = len(sample.prompt_ids) + reflection.tokens
        last = len(ids) - sample.attempt.completion_tokens
        assert trained[first:last] == [0] * (last - first)
        assert policy.decode(ids[first:last]) == "user : Please try again assistant :"
        assert policy.decode(ids[len(sample.prompt_ids) : first]) == reflection.text
        assert policy.decode(ids[last:]) == sample.attempt.transcript[0].content
        chat = retry_chat(
            failure.problem.prompt, failure.transcript, reflection.text, task.words["reflect"], task.words["retry"])
        same += ids[:last] == policy.render(chat, None)
    assert same >= 16  # all but those whose reflection holds a special token, which no text can


def test_the_request_between_reflection_and_retry_gets_no_gradient_at_all(tmp_path: Path) -> None:
    model = tmp_path / "wide"  # a head of full rank: see test_grpo
    model.mkdir()
    make_random_model(model, layers=1, hidden=192)
    mine(tmp_path / "run")
    trainer = trainer_of(tmp_path / "run", model, objective=BOTH, beta=0.1, shared_prefix=False)
    disturb(trainer.model)
    batch = generated(trainer)
    hidden: list[torch.Tensor] = []
    trainer.model.base_model.register_forward_hook(lambda *call: hidden.append(call[2].last_hidden_state))
    loss = trainer._compute_loss(trainer.model, batch)
    (gradient_B_T_H,) = torch.autograd.grad(loss, [hidden[0]])
    start = batch["prompt_ids"].shape[1] - 1
    requests = 0
    for row, sample in enumerate(trainer.batch.samples):
        reflection = sample.reflection.tokens
        gradient_T = gradient_B_T_H[row].abs().sum(-1)
        real = int(batch["completion_mask"][row].sum())
        retry = start + real - sample.attempt.completion_tokens
        requests += retry - (start + reflection)
        assert torch.all(gradient_T[:start] == 0)
        assert torch.all(gradient_T[start : start + reflection] > 0)
        assert torch.all(gradient_T[start + reflection : retry] == 0)
        assert torch.all(gradient_T[retry : start + real] > 0)
        assert torch.all(gradient_T[start + real :] == 0)
    assert requests >= 16 * 6


def test_log_probabilities_that_vllm_wrote_stand_beside_their_tokens(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(tmp_path)
    trainer = trainer_of(tmp_path, random_model, objective=BOTH)
    calls: list[object] = []

    def as_vllm(trainer: PolicyTrainer, cache: PrefixCache) -> Generate:
        def generate(*arguments: object) -> list[list[tuple[list[int], list[float]]]]:
            calls.append(arguments)
            return [[(ids, [-float(len(calls))] * len(ids)) for ids, _ in written_N]
                    for written_N in in_memory(trainer, cache)(*arguments)]

        return generate

    monkeypatch.setattr(sampler, "in_memory", as_vllm)
    batch = generated(trainer)
    for row, sample in enumerate(trainer.batch.samples):
        real = batch["completion_mask"][row].bool()
        written = batch["sampling_per_token_logps"][row][real][batch["tool_mask"][row][real].bool()].tolist()
        assert written == [-1.0] * sample.reflection.tokens + [-2.0] * sample.attempt.completion_tokens


@pytest.mark.parametrize(("objective", "changes"), [
    (ANSWER, {}), (BOTH, {}), (DISTIL, {}), *((ATTEMPTS, {"internalise": True, "loss_per": per})
                                              for per in ("token", "none")),
])
def test_micro_batches_change_no_step(
    tmp_path: Path, random_model: Path, objective: str, changes: dict[str, object]
) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for run, size in ((whole, 16), (parted, 4)):
        mine(run)
        grpo.run(options(run, random_model, objective=objective, steps=2, lr=1e-3, micro_batch=size, **changes))
    before, after = (load_file(run / "models" / "policy" / "model.safetensors") for run in (whole, parted))
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-4, rtol=1e-3)


def test_the_samples_of_a_run_that_was_mined_elsewhere_are_shown(
    rrr: Callable[..., Ran], tmp_path: Path, random_model: Path
) -> None:
    mined, trained = tmp_path / "mined", tmp_path / "trained"
    mine(mined)
    grpo.run(options(trained, random_model, input=mined, steps=1))
    row = next(artifacts.read(trained, "rollouts"))
    story = rrr("show", row.attempt_id, "--run", trained)
    assert story.code == 0, story.err
    assert f"training step 1, group {row.group}, sample" in " ".join(story.out.split())
    assert f"advantage {row.advantage:.2f}" in story.out


def test_training_stops_after_the_step_that_reaches_the_budget(
    tmp_path: Path, random_model: Path, budgeted: Path
) -> None:
    steps = list(artifacts.read(budgeted, "steps"))
    spent = [sum(step.generated_tokens for step in steps[:k]) for k in range(1, len(steps) + 1)]
    assert spent[-2] < BUDGET <= spent[-1]
    mine(tmp_path)
    grpo.run(options(tmp_path, random_model, steps=len(steps)))
    assert weights(tmp_path) == weights(budgeted)

    before = (budgeted / "models" / "policy" / "model.safetensors").stat().st_mtime_ns
    again = grpo.run(options(budgeted, random_model, steps=None, token_budget=BUDGET))
    assert again["generated_tokens"] == spent[-1]
    assert (budgeted / "models" / "policy" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RrrError, match=r"token_budget was 900, now 901"):
        grpo.run(options(budgeted, random_model, steps=None, token_budget=BUDGET + 1))


@pytest.mark.parametrize("moment", ["after two steps", "before the policy"])
def test_a_budget_is_counted_across_a_crash(
    tmp_path: Path, random_model: Path, budgeted: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    mine(tmp_path)
    commit = recorder.Ledger.commit

    def crash_at_four(ledger: recorder.Ledger, checkpoint: Path) -> None:
        if checkpoints.step_of(checkpoint) == 4:
            raise KeyboardInterrupt
        commit(ledger, checkpoint)

    with monkeypatch.context() as patch:
        if moment == "after two steps":
            patch.setattr(recorder.Ledger, "commit", crash_at_four)
        else:
            patch.setattr(checkpoints, "export", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(tmp_path, random_model, steps=None, token_budget=BUDGET))
    if moment == "after two steps":  # the newest checkpoint is damaged: its rows have to be made again
        for path in (tmp_path / "models" / "policy-checkpoints" / "step-000004").glob("*.safetensors"):
            path.unlink()
    grpo.run(options(tmp_path, random_model, steps=None, token_budget=BUDGET))
    assert weights(tmp_path) == weights(budgeted)
    assert list(artifacts.read(tmp_path, "rollouts")) == list(artifacts.read(budgeted, "rollouts"))


@pytest.mark.parametrize(("objective", "changes"), [
    (ANSWER, {}), (BOTH, {}), (DISTIL, {}), (ATTEMPTS, {"attempts": 3, "internalise": True}),
])
def test_an_interrupted_training_goes_on_bit_for_bit(
    tmp_path: Path, random_model: Path, monkeypatch: pytest.MonkeyPatch, objective: str, changes: dict[str, object]
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    for run in (straight, broken):
        mine(run)
    changes = changes | {"objective": objective}
    grpo.run(options(straight, random_model, **changes))
    with monkeypatch.context() as patch:
        patch.setattr(recorder.Ledger, "commit", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            grpo.run(options(broken, random_model, **changes))
    grpo.run(options(broken, random_model, **changes))
    assert weights(broken) == weights(straight)
    assert list(artifacts.read(broken, "rollouts")) == list(artifacts.read(straight, "rollouts"))


def test_answers_that_never_pass_stop_it_every_time(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    impossible = options(
        tmp_path, random_model, task=PARITY.replace("Parity", "Impossible"), steps=None, token_budget=100,
        objective=ANSWER,
    )
    for _ in range(2):  # the same command again must not take the untrained checkpoint for a policy
        with pytest.raises(RrrError, match=r"none of the .* answers in the first . steps? earned a reward") as error:
            grpo.run(impossible)
        assert error.value.exit_code == NOTHING
    assert not (tmp_path / "models" / "policy").exists()


@pytest.mark.parametrize(("changes", "message"), [
    ({"objective": "reflex"}, "--objective reflex: no such objective. Known: reflection, answer, reflection"),
    ({"objective": ANSWER, "no_answers": True}, "--no-answers True: it is about reflections"),
    ({"objective": ANSWER, "reflection_tokens": 9}, "--reflection-tokens 9: it is about reflections"),
    ({"objective": BOTH, "retry_context": "reflection"}, "leave out --retry-context reflection"),
    ({"steps": None, "token_budget": 99, "schedule": "cosine"}, "needs to know how many --steps there are"),
    ({"token_budget": 0}, "--token-budget 0: it must be at least 1"),
])
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, random_model: Path, changes: dict, message: str
) -> None:
    mine(tmp_path)
    with pytest.raises(RrrError, match=message) as error:
        grpo.run(options(tmp_path, random_model, **changes))
    assert error.value.exit_code == USAGE


def test_the_window_need_only_hold_what_the_objective_writes(tmp_path: Path, random_model: Path) -> None:
    mine(tmp_path)
    tokens = {"max_tokens": 120, "dry_run": True}
    plan = grpo.run(options(tmp_path, random_model, objective=ANSWER, **tokens))
    assert plan["longest_text_tokens"] < 150
    with pytest.raises(RrrError, match="lower --reflection-tokens"):
        grpo.run(options(tmp_path, random_model, objective=BOTH, reflection_tokens=120, **tokens))
    with pytest.raises(RrrError, match=r"an answer \(300\) needs .* holds 256: lower --max-tokens"):
        grpo.run(options(tmp_path, random_model, objective=ANSWER, max_tokens=300))


def test_a_template_that_rewrites_earlier_turns_is_refused_for_one_conversation(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    make_random_model(model)
    counted = CHAT_TEMPLATE.replace("{{ bos_token }} ", "{{ bos_token }} {{ messages | length }} ")
    (model / "chat_template.jinja").write_text(counted)
    mine(tmp_path / "run")
    grpo.run(options(tmp_path / "run", model, dry_run=True))
    with pytest.raises(RrrError, match=r"rewrites earlier turns.*choose --objective reflection or answer"):
        grpo.run(options(tmp_path / "run", model, objective=BOTH, dry_run=True))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_problems_own_tools_reach_every_prompt_with_one_bos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    from tokenizers.processors import TemplateProcessing

    model = tmp_path / "model"
    model.mkdir()
    make_random_model(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    # A tokenizer that puts a BOS before whatever it is given, and a template that has one too.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = "{% if tools %}{% for t in tools %}tool : {{ t['function']['name'] }} {% endfor %}{% endif %}"
    tokenizer.chat_template = CHAT_TEMPLATE.replace("{{ bos_token }} ", "{{ bos_token }} " + named)
    tokenizer.save_pretrained(model)
    assert tokenizer("yes").input_ids[0] == 1
    mine(tmp_path / "run", TOOLS)
    trainer = trainer_of(tmp_path / "run", model, objective=objective, task=TOOLS)
    prompts: list[tuple[str, list[list[int]]]] = []
    calls = {ANSWER: ["answer"], ATTEMPTS: ["answer", "reflect", "retry"], DISTIL: ["reflect", "retry", "answer"]}
    purposes = iter(calls.get(objective, ["reflect", "retry"]))
    generate = PolicyEngine.generate

    def spy(engine: PolicyEngine, *arguments: object) -> object:
        completions_B_N = generate(engine, *arguments)
        prompts.append((next(purposes), [c.prompt_ids for completions_N in completions_B_N for c in completions_N]))
        return completions_B_N

    monkeypatch.setattr(PolicyEngine, "generate", spy)
    batch = generated(trainer)
    tools = {p.problem_id: json.loads(p.tools)[0]["function"]["name"] for p in load_task(TOOLS).problems("train")}
    samples = trainer.batch.samples
    everyone = [tools[sample.failure.problem.problem_id] for sample in samples]
    failed = [tools[sample.failure.problem.problem_id] for sample in samples if sample.reflection is not None]
    assert set(everyone) == {"create", "equation"}
    prompts.append(("trained", [
        ids[mask.bool()].tolist() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)]))
    assert [purpose for purpose, _ in prompts] == [*calls.get(objective, ["reflect", "retry"]), "trained"]
    for purpose, prompts_ids_B in prompts:
        expected = failed if purpose in ("reflect", "retry") else everyone
        for ids, name in zip(prompts_ids_B, expected, strict=True):
            words = tokenizer.convert_ids_to_tokens(ids)
            assert words[:4] == ["<s>", "tool", ":", name]
            if purpose == "answer" or objective not in (BOTH, ATTEMPTS) or (purpose, objective) == ("reflect", BOTH):
                assert words.count("<s>") == 1  # else the random model's own tokens stand in the prompt
    if objective in (BOTH, ATTEMPTS):
        for sample in samples:
            if sample.reflection is None:
                continue
            shown = [i for i, mask in zip(sample.completion.ids, sample.completion.mask, strict=True) if not mask]
            assert shown
            assert 1 not in shown


def test_rows_from_before_these_columns_are_read_with_nulls_and_nothing_else_is(tmp_path: Path) -> None:
    step = TrainStep(
        1, 0.1, None, 0.25, 0.4, 0.5, 20.0, 9.0, 0.0, None, 1e-4, 1.0, 2.0, 1.0, 0.5, 0.5, "reflection", None, 0.0, 116,
        0, 0,
    )
    now = arrow_schema("steps")
    old = pa.schema([
        field.with_nullable(field.name in ("kl", "entropy")) for field in now
        if field.name not in ("objective", "answer_length", "clipped_tries", "generated_tokens", "skipped_groups",
                              "refilled_groups", "prefilled_tokens", "reused_tokens")
    ])
    made = provenance.make("steps", "grpo", {}, {}, 0)
    (tmp_path / "steps").mkdir()
    path = tmp_path / "steps" / "part-00000.parquet"
    row = {name: [value] for name, value in vars(step).items() if name in old.names}
    path.write_bytes(parts.encode(pa.table(row, schema=old), made, parts.Place(0))[0])
    assert list(artifacts.read(tmp_path, "steps")) == [
        replace(step, objective=None, clipped_tries=None, generated_tokens=None, skipped_groups=None,
                refilled_groups=None)
    ]
    for wrong in (old.remove(0), old.append(pa.field("more", pa.int64())), old.set(1, pa.field("loss", pa.string()))):
        empty = pa.table({field.name: pa.array([], field.type) for field in wrong}, schema=wrong)
        path.write_bytes(parts.encode(empty, made, parts.Place(0))[0])
        with pytest.raises(RrrError, match="doesn't have the columns of steps"):
            list(artifacts.read(tmp_path, "steps"))

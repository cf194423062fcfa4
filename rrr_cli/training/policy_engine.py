"""The engine around the policy being trained: the same loop as in eval then writes and judges the samples of a step.

Two ways to generate: our own decoding in memory, and TRL's vLLM. The second may be collective: every process has to
call it equally often and with equally many prompts. Reads and writes nothing; a prompt that fills the window gets
`no_room`, which counts as a failed try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from time import perf_counter
from typing import Any

from accelerate.utils import gather_object

from rrr_cli.engines import decoding
from rrr_cli.engines.base import Completion, Prompt, Sampling
from rrr_cli.engines.prefix_cache import PrefixCache
from rrr_cli.training.policy import Policy
from rrr_cli.training.tokens import TokenCompletion, TokenPrompt

Written = tuple[list[int], list[float] | None]  # token ids, and their log-probabilities where vLLM wrote them
# prompts_U, each prompt's seeds, how to sample -> one Written a seed
Generate = Callable[[Sequence[list[int]], Sequence[tuple[int, ...]], Sampling], list[list[Written]]]


class PolicyEngine:
    """The policy at one step of its training, which is the fingerprint of its weights; None: before its training."""

    name = "policy"

    def __init__(
        self, policy: Policy, generate: Generate, step: int | None, window: int, stops: Sequence[int]
    ) -> None:
        self.model, self.fingerprint = policy.name, policy.fingerprint if step is None else f"step-{step}"
        self.policy, self.window, self.stops = policy, window, stops
        self.seconds_reflecting = 0.0  # that `reflect` took
        self._generate = generate

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, TokenCompletions all. Equal prompts are generated from one prefill."""
        ids_B = [
            list(p.ids) if isinstance(p, TokenPrompt) else self.policy.render(p.messages, p.tools) for p in prompts_B
        ]
        places: dict[tuple[int, ...], list[tuple[int, int]]] = {}  # prompt and seed, by the prompt's tokens
        for b, (ids, prompt) in enumerate(zip(ids_B, prompts_B, strict=True)):
            if len(ids) < self.window:
                places.setdefault(tuple(ids), []).extend((b, n) for n in range(len(prompt.seeds)))
        written_U = self._generate(
            [list(ids) for ids in places], [tuple(prompts_B[b].seeds[n] for b, n in at) for at in places.values()],
            sampling,
        )
        completions_B_N: list[list[Completion]] = [
            [self._completion(ids, [], None) for _ in p.seeds] for ids, p in zip(ids_B, prompts_B, strict=True)
        ]
        for at, written in zip(places.values(), written_U, strict=True):
            for (b, n), (ids, logps) in zip(at, written, strict=True):
                completions_B_N[b][n] = self._completion(ids_B[b], ids, logps)
        return completions_B_N

    def reflect(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """`generate`, timed as reflections."""
        start = perf_counter()
        completions_B_N = self.generate(prompts_B, sampling)
        self.seconds_reflecting += perf_counter() - start
        return completions_B_N

    def close(self) -> None:
        """The trainer's model is not this engine's to free."""

    def _completion(self, prompt_ids: list[int], ids: list[int], logps: list[float] | None) -> TokenCompletion:
        """What was written; nothing at all is `no_room` with its tokens."""
        finish = "stop" if ids and ids[-1] in self.stops else "length"
        return TokenCompletion(
            self.policy.decode(ids), len(ids), finish, len(prompt_ids), prompt_ids, ids, logps, self.policy.decode)


def in_memory(trainer: Any, cache: PrefixCache | None = None) -> Generate:
    """Generation with the trainer's own model; `cache` is of its weights as they are now."""
    return decoded(lambda: in_arithmetic(trainer, trainer.model_wrapped), trainer.eos_token_ids, cache)


@contextmanager
def in_arithmetic(trainer: Any, wrapped: Any) -> Iterator[Any]:
    """A model without what accelerate wraps around it. Weights that require a gradient, and that training casts to 16
    bits, are cast once for as long as this lasts, not at each token."""
    with trainer.accelerator.autocast():
        yield trainer.accelerator.unwrap_model(wrapped)


def decoded(
    model: Callable[[], AbstractContextManager[Any]], stops: Sequence[int], cache: PrefixCache | None = None
) -> Generate:
    """Generation with our own decoding of what `model()` gives for as long as a call takes."""
    def generate(
        prompts_U: Sequence[list[int]], seeds_U: Sequence[tuple[int, ...]], sampling: Sampling
    ) -> list[list[Written]]:
        with model() as lm:
            completions_U_N = decoding.sample(
                lm, prompts_U, seeds_U, sampling, stops, batch_size=max(1, sum(map(len, seeds_U))), cache=cache)
        return [[(ids, None) for ids in completions_N] for completions_N in completions_U_N]

    return generate


def with_vllm(trainer: Any) -> Generate:
    """Generation with TRL's vLLM, which draws by a seed of its own; TRL has brought it the policy's weights."""
    def write(prompts_R: list[list[int]]) -> list[Written]:
        _, ids_R, logps_R, _ = trainer.vllm_generation.generate(prompts_R, None, 1)
        # of each token vLLM gives the likeliest too: the sampled one comes first
        return [(ids, [token[0] for token in logps]) for ids, logps in zip(ids_R, logps_R, strict=True)]

    def generate(
        prompts_U: Sequence[list[int]], seeds_U: Sequence[tuple[int, ...]], sampling: Sampling
    ) -> list[list[Written]]:
        trainer.vllm_generation.max_completion_length = sampling.max_tokens
        prompts_R = [ids for ids, seeds in zip(prompts_U, seeds_U, strict=True) for _ in seeds]
        written = iter(evenly(write, prompts_R, filler=[trainer.eos_token_ids[0]]))
        return [[next(written) for _ in seeds] for seeds in seeds_U]

    return generate


def evenly(
    write: Callable[[list[list[int]]], list[Written]], prompts_R: list[list[int]], filler: list[int]
) -> list[Written]:
    """`write`, a collective call, with as many prompts as the busiest process has; what fillers bring is dropped."""
    most = max(gather_object([len(prompts_R)]))
    if most == 0:
        return []
    return write([*prompts_R, *[filler] * (most - len(prompts_R))])[: len(prompts_R)]


def open_anywhere(is_open: bool) -> bool:
    """Whether an episode is open in any process. `Loop.any_open` where generation is collective."""
    return any(gather_object([is_open]))

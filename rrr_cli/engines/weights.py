"""Weights that are proved to be loaded: every tensor of a model or an adapter comes from its files, and none is left.

transformers and PEFT fill what a file lacks with random numbers and pass over what they don't know. Everything that
loads weights loads them here, or (vLLM, TRL) asks `prove` before it does. Refuses the rest, naming the first keys.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from rrr_cli.engines.hub import ADAPTER
from rrr_cli.engines.libraries import import_transformers
from rrr_cli.engines.loading import check_loaded, loading, whole
from rrr_cli.engines.model_files import header, json_object
from rrr_cli.engines.model_files import weights as weight_files
from rrr_cli.engines.models import ResolvedModel
from rrr_cli.errors import BAD_INPUT, RrrError
from rrr_cli.extras import require

PACKAGES = {"quark": "amd-quark", "quanto": "optimum-quanto"}  # quantisers whose package has another name
PLAIN = ("F64", "F32", "F16", "BF16")  # dtypes of weights as they are
SHARED = ("vblora_vector_bank", "prompt_encoder")  # of some adapters: set by PEFT, not part of the file


def load(resolved: ResolvedModel, dtype: Any) -> Any:
    """The causal language model of `resolved` without its adapter, in eval mode, every tensor from its files.

    Raises RrrError: exit 3, or 4 where a package is missing.
    """
    lm, info = read(resolved, config_of(resolved), dtype=dtype)
    check_loaded(info, resolved.path)
    check_numbers(lm, resolved.path)
    return lm


def prove(resolved: ResolvedModel, strict: bool = True) -> None:
    """Raise RrrError (exit 3 or 4) unless all weights of `resolved` would load.

    Reads the names and shapes of tensors alone: milliseconds. Quantised weights can't be proved without their device;
    without `strict`, neither can a model that transformers doesn't know.
    """
    quantised = "quantization_config" in json_object(resolved.path / "config.json")
    try:
        lm, info = read(resolved, config_of(resolved), dtype="float32", device_map="meta")
    except RrrError as error:
        if strict and not (quantised and error.exit_code == BAD_INPUT):
            raise
        return
    if quantised:
        return
    check_loaded(info, resolved.path)
    check_numbers(lm, resolved.path)
    if resolved.adapter:
        adapted(lm, resolved)


def check_numbers(lm: Any, folder: Path) -> None:
    """Raise RrrError (exit 3) where the files hold 8-bit numbers or integers for weights of a model that isn't
    quantised: transformers takes them as they are, without the scales that they were divided by."""
    if getattr(lm.config, "quantization_config", None):
        return
    parameters = {name.removeprefix(f"{lm.base_model_prefix}.") for name, _ in lm.named_parameters()}
    for path in weight_files(folder):
        for name, tensor in header(path)[1].items():
            if tensor["dtype"] not in PLAIN and name.removeprefix(f"{lm.base_model_prefix}.") in parameters:
                raise RrrError(f"{folder}: {name} is of {tensor['dtype']} numbers, and config.json doesn't say how "
                               "they were quantised (quantization_config); fetch the whole model again")


def config_of(resolved: ResolvedModel) -> Any:
    """The configuration of the model. Raises RrrError (exit 3): unknown, or it needs code that comes with the model."""
    import_transformers()
    from transformers import AutoConfig

    with loading(f"--model {resolved.name} doesn't load", whole()):
        return AutoConfig.from_pretrained(str(resolved.path), trust_remote_code=False)


def read(resolved: ResolvedModel, config: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The model as transformers loads it, and what it says of the keys, which nobody has looked at yet."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()  # `check_loaded` says what didn't load
    options |= how(config)
    with loading(f"--model {resolved.name} doesn't load", whole(), quantiser(config)):
        return AutoModelForCausalLM.from_pretrained(  # type: ignore[no-any-return]
            str(resolved.path), config=config, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True, **options)  # they are in the info, by name


def how(config: Any) -> dict[str, Any]:
    """from_pretrained's options wherever a model is loaded, by TRL too."""
    return {"use_safetensors": True, "attn_implementation": attention(config)}


def adapted(lm: Any, resolved: ResolvedModel) -> Any:
    """`lm` with the adapter of `resolved`, all of whose tensors are in use.

    Raises RrrError: an adapter of another base or kind (exit 3), peft missing (4).
    """
    require("train", "peft")
    from peft import PeftConfig, PeftModelForCausalLM

    folder = resolved.adapter
    assert folder is not None
    cure = f"is it an adapter of {resolved.path}, and of a version of PEFT that is here?"
    with loading(f"--model {resolved.name}: the adapter in {folder} doesn't load", cure):
        config = PeftConfig.from_pretrained(str(folder))
        if config.peft_type == "LORA" and "lora_alpha" not in json_object(folder / "adapter_config.json"):
            raise RrrError(f"{folder / 'adapter_config.json'} has no lora_alpha, without which the adapter's strength "
                           "isn't known: set it to what it was trained with")
        if config.is_prompt_learning:
            raise RrrError(f"--model {resolved.name}: an adapter of kind {config.peft_type.value} is a soft prompt, "
                           "which no engine here takes; train a LoRA adapter")
        config.inference_mode = True
        model = PeftModelForCausalLM(lm, config)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no-op.*")  # `prove` copies onto no device
            mapping = getattr(lm, "_checkpoint_conversion_mapping", {})
            result = model.load_adapter(str(folder), "default", torch_device="cpu", key_mapping=mapping)
        unsaved = [name for name in config.modules_to_save or () if not saved(folder, name)]
    missing = [*(k for k in result.missing_keys if not any(s in k for s in SHARED)), *unsaved]
    check_loaded(
        {"missing_keys": missing, "unexpected_keys": result.unexpected_keys}, folder,
        f"name the base that it was trained on in {folder / 'adapter_config.json'}, or save the adapter again")
    return model


def merges(model: Any) -> bool:
    """Whether an adapter can be added to the weights: not to an embedding that is the output layer as well, of which
    the adapter changes one alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    lm = model.get_base_model()
    ends = (lm.get_input_embeddings(), lm.get_output_embeddings())
    return not (lm.config.get_text_config().tie_word_embeddings and any(isinstance(e, BaseTunerLayer) for e in ends))


def attention(config: Any) -> str:
    """PyTorch's own attention where the model takes it, and it computes what the model was trained with.

    It has no soft cap: with it Gemma-2 would write other tokens, in silence.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING as CLASSES

    takes_sdpa = getattr(CLASSES.get(type(config), None), "_supports_sdpa", False)
    return "sdpa" if takes_sdpa and not capped(config) else "eager"


def capped(config: Any) -> bool:
    """Whether the model's attention has a soft cap."""
    return bool(getattr(config.get_text_config(), "attn_logit_softcapping", None))


def quantiser(config: Any) -> str:
    """The package that quantised weights need; "" where they aren't quantised."""
    about = getattr(config, "quantization_config", None)
    method = about.get("quant_method") if isinstance(about, dict) else getattr(about, "quant_method", None)
    name = str(getattr(method, "value", method) or "")
    return PACKAGES.get(name, name)


def saved(folder: Path, name: str) -> bool:
    """Whether an adapter's file holds a module that is trained whole."""
    from safetensors import safe_open

    with safe_open(str(folder / ADAPTER), "pt") as file:
        return any(f".{name}." in key for key in file.keys())  # noqa: SIM118

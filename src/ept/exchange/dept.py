"""DePT's published adapters (github.com/ZhengxiangShi/DePT): a short prompt and a low-rank pair."""

from pathlib import Path

import torch
from torch import Tensor

from ept.errors import InputError
from ept.exchange.adapter import PICKLE_FILE, PROMPT_KEY, AdapterFolder, ForeignPrompt, base_model, write_adapter
from ept.methods.prompt_file import SavedPrompt
from ept.methods.registry import method_of_format

NAMES = {
    PROMPT_KEY: "prompt",
    "prompt_encoder.lora_embedding_A": "A",
    "prompt_encoder.lora_embedding_B": "B",
}
# The released code's scale is lora_alpha / sqrt(r), this project's 8 / sqrt(r).
ALPHA = 8


def read(folder: str | Path) -> ForeignPrompt:
    """The DePT prompt in an adapter folder: prompt [s, hidden], A [m, r], B [r, hidden].

    Another lora_alpha than 8 goes into B, for equal outputs. The configuration's load_lora_... switches say how the
    released code starts a new training from the folder; what was trained is in the tensors. Raises InputError for
    everything that `AdapterFolder` refuses, and for tensors or sizes that do not fit each other.
    """
    adapter = AdapterFolder(folder, "PROMPT_TUNING_LORA", task_types=("SEQ_2_SEQ_LM",))
    tensors = adapter.tensors(NAMES)
    _check_pair(adapter, **tensors)
    tensors["prompt"], remarks = adapter.encoder_prompt(tensors["prompt"])
    alpha = adapter.config.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        raise InputError(
            f"{adapter.config_path}: lora_alpha is {alpha!r}, but must be a number below one million; DePT's is {ALPHA}"
        )
    if alpha != ALPHA:
        tensors["B"] = tensors["B"] * (alpha / ALPHA)
        remarks += (f"lora_alpha is {alpha}, not {ALPHA}: B was multiplied by {alpha / ALPHA:g} for the same outputs",)
    return ForeignPrompt(method_of_format("dept"), tensors, adapter.base_model, remarks)


def write(folder: Path, prompt: SavedPrompt, origin: str, backbone: str | None) -> None:
    """Write a prompt of DePT or EPT as DePT's adapter: of EPT P*, A and B, which is a DePT prompt with equal outputs.

    `origin` names the prompt in error sentences. Raises InputError for a prompt without low-rank pair, and where
    `write_adapter` cannot write.
    """
    tensors = prompt.collapsed
    if tensors.keys() != {"prompt", "A", "B"}:
        remedy = "use --format peft" if tensors.keys() == {"prompt"} else "share the prompt file itself"
        raise InputError(
            f"{origin} needs {', '.join(sorted(tensors))}, but DePT's format has a prompt and a low-rank pair A, B; "
            f"{remedy}"
        )
    length, rank = tensors["A"].shape
    tokens, hidden = tensors["prompt"].shape
    config = {
        **base_model(prompt, backbone),
        "peft_type": "PROMPT_TUNING_LORA",
        "inference_mode": True,
        "num_virtual_tokens": tokens,
        "num_transformer_submodules": 1,
        "token_dim": hidden,
        "hidden_size": hidden,
        "max_length": length,
        "r": rank,
        "lora_alpha": ALPHA,
        "bias": "none",
        "init_lora_weights": True,
        "save_lora_embeddings": True,
        "load_lora_embeddings": True,
        "load_lora_embedding_B": True,
        # TEXT would make the released code fetch a tokenizer, only to overwrite what it makes of the text.
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "tokenizer_name_or_path": None,
    }
    write_adapter(folder, config, {name: tensors[own] for name, own in NAMES.items()}, _save)


def _save(tensors: dict[str, Tensor], folder: Path) -> None:
    torch.save(tensors, folder / PICKLE_FILE)


def _check_pair(adapter: AdapterFolder, prompt: Tensor, A: Tensor, B: Tensor) -> None:
    if A.shape[1] != B.shape[0] or B.shape[1] != prompt.shape[1]:
        raise InputError(
            f"{adapter.folder}: the shapes of prompt {list(prompt.shape)}, A {list(A.shape)} and B {list(B.shape)} do "
            "not fit each other as s x d, m x r and r x d; fetch the adapter again"
        )
    adapter.check_size("r", A.shape[1])
    adapter.check_size("max_length", A.shape[0])
    adapter.check_size("token_dim", prompt.shape[1])

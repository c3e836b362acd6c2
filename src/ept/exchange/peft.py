"""PEFT's prompt tuning (huggingface.co/docs/peft): one matrix before the text. Reads and writes without PEFT."""

from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from ept.errors import InputError
from ept.exchange.adapter import PROMPT_KEY, SAFETENSORS_FILE, AdapterFolder, ForeignPrompt, base_model, write_adapter
from ept.methods.prompt_file import SavedPrompt
from ept.methods.registry import method_of_format


def read(folder: str | Path) -> ForeignPrompt:
    """The prompt [length, hidden] of a folder that PEFT has saved, as a prompt of PT (SPoT starts from such too).

    Raises InputError for everything that `AdapterFolder` refuses, and for sizes other than the configuration's.
    """
    adapter = AdapterFolder(folder, "PROMPT_TUNING", task_types=("SEQ_2_SEQ_LM", "CAUSAL_LM"))
    whole = adapter.tensors({PROMPT_KEY: "prompt"})["prompt"]
    prompt, remarks = adapter.encoder_prompt(whole)
    # PEFT fills in what a hand-written configuration leaves open.
    if adapter.config.get("token_dim") is not None:
        adapter.check_size("token_dim", prompt.shape[1])
    return ForeignPrompt(method_of_format("peft"), {"prompt": prompt}, adapter.base_model, remarks)


def write(folder: Path, prompt: SavedPrompt, origin: str, backbone: str | None) -> None:
    """Write a prompt without offset (PT, SPoT) as a folder that `PeftModel.from_pretrained` loads.

    With num_transformer_submodules 1: PEFT's own default for encoder-decoders, 2, allocates twice what it uses.
    `origin` names the prompt in error sentences. Raises InputError for a prompt that also changes the text, and where
    `write_adapter` cannot write.
    """
    if prompt.collapsed.keys() != {"prompt"}:
        pair = prompt.collapsed.keys() == {"prompt", "A", "B"}
        remedy = "use --format dept" if pair else "share the prompt file itself"
        raise InputError(
            f"{origin} needs {', '.join(sorted(prompt.collapsed))}, but PEFT's prompt tuning only prepends a prompt; "
            f"{remedy}"
        )
    tokens, hidden = prompt.collapsed["prompt"].shape
    config = {
        **base_model(prompt, backbone),
        "peft_type": "PROMPT_TUNING",
        "inference_mode": True,
        "num_virtual_tokens": tokens,
        "num_transformer_submodules": 1,
        "token_dim": hidden,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "tokenizer_name_or_path": None,
    }
    write_adapter(folder, config, {PROMPT_KEY: prompt.collapsed["prompt"]}, _save)


def _save(tensors: dict[str, Tensor], folder: Path) -> None:
    save_file(tensors, folder / SAFETENSORS_FILE, metadata={"format": "pt"})

"""Bad adapters and prompt files: of other programs, of other methods, incomplete."""

import torch

from bad_input.cases import EXPORT, FROM_SOURCE, IMPORT, cases
from bad_input.spoil import (
    adapter,
    after,
    content,
    foreign,
    gone,
    model_json,
    prompt,
    settings,
    source_prompt,
    source_prompt_file,
    torn,
)

CASES = {
    "unknown format": (adapter(), IMPORT.replace("peft", "lora"), "--format .. 'lora'"),
    "no adapter": (settings(), IMPORT, "adapter .. --from"),
    "other adapter": (
        adapter({"peft_type": "LORA"}),
        IMPORT,
        "adapter_config.json .. peft_type .. 'LORA'",
    ),
    "no adapter_config.json": (
        after(adapter(), gone("adapter/adapter_config.json")),
        IMPORT,
        "adapter/adapter_config.json .. --from",
    ),
    "half an adapter": (
        after(adapter(), torn("adapter/adapter_model.safetensors")),
        IMPORT,
        "adapter_model.safetensors",
    ),
    "adapter with NaN": (
        adapter(prompt_embeddings=torch.full((8, 16), torch.nan)),
        IMPORT,
        "adapter_model.safetensors .. prompt_embeddings .. NaN",
    ),
    "adapter for another backbone": (
        after(adapter(), model_json(d_model=24)),
        f"{IMPORT} --backbone-folder model",
        "adapter .. 16 .. model .. 24 .. --backbone-folder",
    ),
    "target there already": (
        after(adapter(), prompt(prompt=torch.ones(4, 16))),
        IMPORT.replace("new", "mine"),
        "prompts/mine.safetensors .. --to",
    ),
    "target below a file": (
        adapter(),
        IMPORT.replace("prompts/new", "config.yaml/new"),
        "config.yaml/new.safetensors .. --to",
    ),
    "no prompt": (settings(), EXPORT, "prompts/mine.safetensors"),
    "half a prompt": (
        after(prompt(prompt=torch.ones(4, 16)), torn("prompts/mine.safetensors", -1)),
        EXPORT,
        "prompts/mine.safetensors",
    ),
    "foreign file": (foreign("prompts/mine.safetensors"), EXPORT, "mine.safetensors"),
    "no pair": (
        prompt(prompt=torch.ones(4, 16)),
        EXPORT,
        "prompts/mine.safetensors .. --format peft",
    ),
    "prompt with NaN": (
        prompt(prompt=torch.full((4, 16), torch.nan)),
        EXPORT,
        "prompts/mine.safetensors .. prompt .. NaN",
    ),
    "source prompt absent": (
        lambda: source_prompt_file().unlink(),
        FROM_SOURCE,
        "prompts/tiny/dept/sst2/source/ .. seed0.safetensors",
    ),
    "half a source prompt": (
        torn("prompts/tiny/dept/sst2/source/*/seed0.safetensors"),
        FROM_SOURCE,
        "seed0.safetensors",
    ),
    "source prompt empty": (
        content("prompts/tiny/dept/sst2/source/*/seed0.safetensors", ""),
        FROM_SOURCE,
        "seed0.safetensors",
    ),
    "source of another program": (
        foreign(source_prompt_file),
        FROM_SOURCE,
        "seed0.safetensors",
    ),
    "source of half a header": (
        foreign(source_prompt_file, {"format": "ept-prompt-1"}),
        FROM_SOURCE,
        "seed0.safetensors",
    ),
    "source of another method": (
        source_prompt(without=("A", "B")),
        FROM_SOURCE,
        "seed0.safetensors .. A, B",
    ),
    "source with more tensors": (
        source_prompt(gate=torch.ones(4)),
        FROM_SOURCE,
        "seed0.safetensors .. gate",
    ),
    "source of another hidden size": (
        source_prompt(prompt=torch.ones(4, 24), B=torch.ones(8, 24)),
        FROM_SOURCE,
        "seed0.safetensors .. prompt .. 24 .. 16",
    ),
    "source of another rank": (
        source_prompt(A=torch.ones(256, 3), B=torch.ones(3, 16)),
        FROM_SOURCE,
        "seed0.safetensors .. A .. [256, 3] .. [256, 8]",
    ),
    "source without an axis": (
        source_prompt(prompt=torch.tensor(1.0)),
        FROM_SOURCE,
        "seed0.safetensors .. prompt .. [] .. [4, 16]",
    ),
    "source with NaN": (
        source_prompt(B=torch.full((8, 16), torch.nan)),
        FROM_SOURCE,
        "seed0.safetensors .. B .. NaN",
    ),
}


@cases(CASES)
def test_bad_adapter(refused, spoil, command, words):
    refused(spoil, command, words)

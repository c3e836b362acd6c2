"""Bad adapters and prompt files: of other programs, of other methods, torn."""

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
    "unknown format": (adapter(), IMPORT.replace("peft", "lora"), "--format: .. 'lora' .. see `ept import --help`"),
    "no adapter": (settings(), IMPORT, "there is no adapter folder adapter; mend --from"),
    "other adapter": (
        adapter({"peft_type": "LORA"}),
        IMPORT,
        "adapter_config.json: peft_type is 'LORA', .. can become",
    ),
    "no adapter_config.json": (
        after(adapter(), gone("adapter/adapter_config.json")),
        IMPORT,
        "adapter/adapter_config.json is missing; name the folder",
    ),
    "adapter torn": (
        after(adapter(), torn("adapter/adapter_model.safetensors")),
        IMPORT,
        "adapter_model.safetensors is damaged .. fetch the adapter again",
    ),
    "adapter with NaN": (
        adapter(prompt_embeddings=torch.full((8, 16), torch.nan)),
        IMPORT,
        "adapter_model.safetensors: prompt_embeddings holds NaN or infinity; take an adapter",
    ),
    "adapter for another backbone": (
        after(adapter(), model_json(d_model=24)),
        f"{IMPORT} --backbone-folder model",
        "the prompt in adapter has hidden size 16, the backbone in model has 24; name the backbone",
    ),
    "target there already": (
        after(adapter(), prompt(prompt=torch.ones(4, 16))),
        IMPORT.replace("new", "mine"),
        "prompts/mine.safetensors exists already; name a new file with --to",
    ),
    "target below a file": (
        adapter(),
        IMPORT.replace("prompts/new", "config.yaml/new"),
        "cannot write config.yaml/new.safetensors .. name another file with --to",
    ),
    "no prompt": (settings(), EXPORT, "there is no prompt file prompts/mine.safetensors; train it first"),
    "prompt torn": (
        after(prompt(prompt=torch.ones(4, 16)), torn("prompts/mine.safetensors", -1)),
        EXPORT,
        "prompts/mine.safetensors is damaged .. make it anew",
    ),
    "foreign file": (foreign("prompts/mine.safetensors"), EXPORT, "mine.safetensors is no prompt file .. use one that"),
    "no pair": (
        prompt(prompt=torch.ones(4, 16)),
        EXPORT,
        "prompts/mine.safetensors .. has no low-rank pair .. use --format peft",
    ),
    "prompt with NaN": (
        prompt(prompt=torch.full((4, 16), torch.nan)),
        EXPORT,
        "prompts/mine.safetensors .. prompt is no matrix of finite numbers; use a prompt of a run",
    ),
    "source prompt absent": (
        lambda: source_prompt_file().unlink(),
        FROM_SOURCE,
        "there is no prompt file prompts/tiny/dept/sst2/source/ .. seed0.safetensors; train it first",
    ),
    "source prompt torn": (
        torn("prompts/tiny/dept/sst2/source/*/seed0.safetensors"),
        FROM_SOURCE,
        "seed0.safetensors is damaged .. make it anew",
    ),
    "source prompt empty": (
        content("prompts/tiny/dept/sst2/source/*/seed0.safetensors", ""),
        FROM_SOURCE,
        "seed0.safetensors is damaged .. make it anew",
    ),
    "source of another program": (
        foreign(source_prompt_file),
        FROM_SOURCE,
        "seed0.safetensors is no prompt file .. use one",
    ),
    "source of half a header": (
        foreign(source_prompt_file, {"format": "ept-prompt-1"}),
        FROM_SOURCE,
        "seed0.safetensors is no prompt file .. use one",
    ),
    "source of another method": (
        source_prompt(without=("A", "B")),
        FROM_SOURCE,
        "seed0.safetensors lacks A, B: it belongs to another method .. use a prompt with",
    ),
    "source with more tensors": (
        source_prompt(gate=torch.ones(4)),
        FROM_SOURCE,
        "seed0.safetensors has gate too many: it belongs to another method .. use a prompt with",
    ),
    "source of another hidden size": (
        source_prompt(prompt=torch.ones(4, 24), B=torch.ones(8, 24)),
        FROM_SOURCE,
        "seed0.safetensors: tensor prompt has hidden size 24, the backbone has 16; use a prompt that",
    ),
    "source of another rank": (
        source_prompt(A=torch.ones(256, 3), B=torch.ones(3, 16)),
        FROM_SOURCE,
        "seed0.safetensors: tensor A has shape [256, 3], needed is [256, 8]; use a prompt that",
    ),
    "source without an axis": (
        source_prompt(prompt=torch.tensor(1.0)),
        FROM_SOURCE,
        "seed0.safetensors: tensor prompt has shape [], needed is [4, 16]; use a prompt that",
    ),
    "source with NaN": (
        source_prompt(B=torch.full((8, 16), torch.nan)),
        FROM_SOURCE,
        "seed0.safetensors: tensor B holds NaN or infinity; use a prompt of a run that did not diverge",
    ),
}


@cases(CASES)
def test_bad_adapter(refused, spoil, command, words):
    refused(spoil, command, words)

"""Prompts for vLLM's `prompt_embeds` and transformers' `generate(inputs_embeds=...)`: tensors and a small client.

vLLM takes a request's input as embeddings. A prompt that is only prepended (PT, SPoT, MPT) is the same tensor for every
request, which vLLM's prefix cache then serves once. Others also change the text's embeddings, so that the client
needs the backbone's embedding matrix.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from ept.backbones.load import load_backbone
from ept.demo.identity import BACKBONE_FOLDER
from ept.errors import InputError
from ept.files import write_folder_atomically, write_sums, write_text
from ept.methods.build import prompt_class
from ept.methods.prompt import PromptOutput
from ept.methods.prompt_file import SavedPrompt

CLIENT = '''\
"""Send texts with this folder's prompt to a vLLM server started with --enable-prompt-embeds.

    vllm serve MODEL --enable-prompt-embeds
    python client.py MODEL "the text"
"""

import base64
import io
import json
import sys
import urllib.request
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

FOLDER = Path(__file__).parent
PROMPT = load_file(FOLDER / "prompt.safetensors")
EMBEDDING = load_file(FOLDER / "embedding.safetensors")["embedding"]
CUE = {cue!r}


def prompt_embeds(text: str, tokenizer) -> torch.Tensor:
    """Prompt and text as input embeddings [positions, hidden]."""
    ids = tokenizer(text + CUE, return_tensors="pt").input_ids[0]
    embedded = EMBEDDING[ids].float()
    if "offset" in PROMPT:
        embedded = embedded + PROMPT["offset"][: len(ids)]
    return torch.cat([PROMPT["prompt"], embedded])


if __name__ == "__main__":
    model, text = sys.argv[1:3]
    buffer = io.BytesIO()
    torch.save(prompt_embeds(text, AutoTokenizer.from_pretrained(model)), buffer)
    embeds = base64.b64encode(buffer.getvalue()).decode()
    body = {{"model": model, "prompt_embeds": embeds, "max_tokens": 8, "temperature": 0}}
    request = urllib.request.Request(
        "http://localhost:8000/v1/completions", json.dumps(body).encode(), {{"Content-Type": "application/json"}}
    )
    print(json.load(urllib.request.urlopen(request))["choices"][0]["text"])
'''


def write(folder: Path, prompt: SavedPrompt, origin: str, backbone: str | None) -> None:
    """Write prompt.safetensors, embedding.safetensors, client.py and SHA256SUMS as one new folder.

    Args:
        folder: The new folder.
        prompt: The prompt of any method whose prompt does not depend on the text.
        origin: What messages call it.
        backbone: Folder of the backbone, whose embedding matrix the client needs (`demo-t5` is the embedded one).

    Raises:
        InputError: The prompt depends on the text, the backbone's folder is missing or has another hidden size, or
            `folder` exists.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already; name a new folder with --to, or remove that one")
    source = Path(backbone) if backbone and Path(backbone).is_dir() else None
    if source is None and (backbone or prompt.metadata.get("backbone")) == "demo-t5":
        source = BACKBONE_FOLDER
    if source is None:
        raise InputError(f"{origin}: the client needs the backbone's embeddings; name its folder with --backbone")
    embedding = load_backbone(source).embedding
    if embedding.shape[1] != prompt.collapsed["prompt"].shape[1]:
        raise InputError(
            f"{origin} has hidden size {prompt.collapsed['prompt'].shape[1]}, the backbone in {source} "
            f"{embedding.shape[1]}; name the backbone that it was trained on with --backbone"
        )
    with torch.inference_mode():
        output = prompt_class(str(prompt.metadata.get("method", "pt"))).served(prompt.collapsed)
        embedding = output.table(embedding.float())
    if type(output).row_prompts is not PromptOutput.row_prompts:
        raise InputError(f"{origin} computes a different prompt for each text, which this format cannot represent")
    tensors = {"prompt": output.prompt[0].float().contiguous().clone()}
    if output.offset is not None:
        tensors["offset"] = output.offset[0].float().contiguous().clone()
    causal = prompt.metadata.get("task_type") == "CAUSAL_LM"
    cue = f"\n{prompt.metadata.get('cue', 'Answer:')}" if causal else ""
    with write_folder_atomically(folder) as temporary:
        save_file(tensors, temporary / "prompt.safetensors")
        save_file({"embedding": embedding.detach().contiguous().clone()}, temporary / "embedding.safetensors")
        write_text(temporary / "client.py", CLIENT.format(cue=cue))
        write_sums(temporary)

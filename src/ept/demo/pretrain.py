"""Pretrains the demonstration backbone: a small T5 on the demonstration language, minutes on two cores."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import T5Config, T5ForConditionalGeneration

from ept.demo.corpus import HINTED, NAMES, corrupt, language, plain_text, roles_example, task_example
from ept.demo.tokenizer import EOS, PAD, build_tokenizer, save_tokenizer
from ept.demo.world import World
from ept.files import write_atomically, write_json

STEPS = 5000
BATCH = 64
MATRIX_RATE = 1e-3
EMBEDDING_RATE = 5e-3
"""Embeddings have unit size and each word is rare: at the matrices' rate they would stay where they started."""
BIAS_RATE = 3e-2
"""Relative position biases must reach several units before a head looks at one place."""
NORM_RATE = 3e-3
WARM_UP = 100
CORRUPTED = 0.1
"""Share of span corruption; the rest are tasks in words."""
PARSED = 0.12
"""Share, of the rest, of sentences to be taken apart into their roles."""
CHUNK = 50
"""Batches drawn together, so that rows of like length meet in one batch."""
SHARPNESS = 0.42
"""Scale of query and key maps: equal words of embedding size 1 then score a few units above others."""
NEIGHBOR = 3.0
"""Starting bias of a head that looks one or two words ahead or back."""


def configuration(vocabulary_size: int) -> T5Config:
    """The small T5: 3 + 2 layers, hidden size 128, tied embeddings, no dropout."""
    # transformers takes the last ones by name alone.
    common: dict[str, Any] = {"tie_word_embeddings": True, "decoder_start_token_id": 0}
    return T5Config(
        vocab_size=vocabulary_size,
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=3,
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=64,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        pad_token_id=0,
        eos_token_id=1,
        **common,
    )


def draw_examples(world: World, tokenizer: Tokenizer, count: int) -> list[tuple[list[int], list[int]]]:
    """`count` examples of the mix as (source, target) pieces, both ending in </s>."""
    tasks = list(NAMES)
    shares = np.cumsum([NAMES[task][1] for task in tasks])
    corrupted, spoken = [], []
    for _ in range(count):
        task = tasks[int(np.searchsorted(shares, world.number() * shares[-1], side="right"))]
        if world.chance(CORRUPTED):
            corrupted.append(plain_text(world, task))
        elif world.chance(PARSED):
            spoken.append(roles_example(world))
        else:
            spoken.append(task_example(world, task, HINTED))
    end, first_sentinel = (cast(int, tokenizer.token_to_id(piece)) for piece in (EOS, "<extra_id_0>"))
    sources = [encoding.ids for encoding in tokenizer.encode_batch([source for source, _ in spoken])]
    targets = [encoding.ids for encoding in tokenizer.encode_batch([target for _, target in spoken])]
    examples = list(zip(sources, targets, strict=True))
    for encoding in tokenizer.encode_batch(corrupted):
        source, target = corrupt(world, encoding.ids[:-1], first_sentinel)
        examples.append(([*source, end], [*target, end]))
    return examples


def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    """Rows of pieces as one tensor [rows, longest], padded on the right."""
    result = torch.full((len(rows), max(map(len, rows))), filler)
    for number, row in enumerate(rows):
        result[number, : len(row)] = torch.tensor(row)
    return result


def batches(world: World, tokenizer: Tokenizer, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of (source [rows, length], target [rows, length] with -100 as padding)."""
    pad = cast(int, tokenizer.token_to_id(PAD))
    for start in range(0, steps, CHUNK):
        count = min(CHUNK, steps - start)
        examples = draw_examples(world, tokenizer, count * BATCH)
        examples.sort(key=lambda example: len(example[0]))
        for number in world.shuffled(range(count)):
            rows = examples[number * BATCH : (number + 1) * BATCH]
            yield padded([source for source, _ in rows], pad), padded([target for _, target in rows], -100)


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rates at a step: linear warm-up, then a cosine down to a fiftieth."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    share = (step - WARM_UP) / max(1, steps - WARM_UP)
    return 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * share))


def optimizer(model: T5ForConditionalGeneration) -> torch.optim.AdamW:
    """AdamW with a rate for each kind of parameter: with one for all, the comparisons of two texts stay at chance."""
    kinds: dict[str, list[torch.nn.Parameter]] = {"matrix": [], "embedding": [], "bias": [], "norm": []}
    for name, parameter in model.named_parameters():
        if "relative" in name:
            kinds["bias"].append(parameter)
        elif "shared" in name:
            kinds["embedding"].append(parameter)
        else:
            kinds["matrix" if parameter.ndim == 2 else "norm"].append(parameter)
    rates = {"matrix": MATRIX_RATE, "embedding": EMBEDDING_RATE, "bias": BIAS_RATE, "norm": NORM_RATE}
    groups = [{"params": parameters, "lr": rates[kind]} for kind, parameters in kinds.items()]
    return torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))


def rebuild(
    folder: str | Path, seed: int = 0, steps: int = STEPS, progress: Callable[[str], None] = print
) -> T5ForConditionalGeneration:
    """Make the tokenizer, pretrain the backbone, write both to `folder`; returns the model for evaluation.

    `progress` gets a line every 200 steps with the loss and the time left. Same seed, machine and number of
    threads: same weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(language())
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(configuration(tokenizer.get_vocab_size()))
    start_matching(model)
    stepper = optimizer(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: rate_at(step, steps))
    started, total = time.monotonic(), 0.0
    model.train()
    for step, (source, target) in enumerate(batches(World("pretraining", (seed,)), tokenizer, steps)):
        loss = model(input_ids=source, attention_mask=(source != 0).long(), labels=target).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        stepper.step()
        schedule.step()
        stepper.zero_grad()
        total += loss.item()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            count = (step % 200) + 1
            left = (time.monotonic() - started) / (step + 1) * (steps - step - 1)
            progress(f"step {step + 1} of {steps}, loss {total / count:.3f}, {left / 60:.1f} minutes left")
            total = 0.0
    model.eval()
    save(model, tokenizer, folder)
    return model


def save(model: T5ForConditionalGeneration, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, model.safetensors (tied weights once) and the tokenizer's files."""
    save_tokenizer(tokenizer, folder)
    write_json(
        folder / "config.json",
        model.config.to_diff_dict() | {"architectures": ["T5ForConditionalGeneration"]},
    )
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    shared = weights["shared.weight"]
    tied = [
        name for name, tensor in weights.items() if name != "shared.weight" and tensor.data_ptr() == shared.data_ptr()
    ]
    for name in tied:
        del weights[name]
    with write_atomically(folder / "model.safetensors") as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})


@torch.no_grad()
def start_matching(model: T5ForConditionalGeneration) -> None:
    """Set queries equal to keys in half of the encoder's heads and in all cross-attention, in place.

    Attention then looks for equal words from the start. Two of the other encoder heads start with a bias to the
    neighboring words on either side. [known: mimetic initialization, Trockman and Kolter, "Mimetic Initialization of
    Self-Attention Layers", 2023] From T5's own start a model of this size finds out only after an hour that words can
    be looked up elsewhere in a text, and until then every task that compares two texts stays at chance.
    """
    stacks: Any = model
    heads, width = model.config.num_heads, model.config.d_kv
    size = model.config.d_model
    for block in stacks.encoder.block:
        attention, basis = block.layer[0].SelfAttention, _orthogonal(size)
        for head in range(heads // 2):
            rows = slice(head * width, (head + 1) * width)
            attention.q.weight[rows] = attention.k.weight[rows] = SHARPNESS * basis[rows]
    # Buckets 1 and 2 are the words before, 17 and 18 those after.
    bias = stacks.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias[1:3, heads // 2] = NEIGHBOR
    bias[17:19, heads // 2 + 1] = NEIGHBOR
    for block in stacks.decoder.block:
        attention, basis = block.layer[1].EncDecAttention, _orthogonal(size)
        attention.q.weight.copy_(SHARPNESS * basis)
        attention.k.weight.copy_(SHARPNESS * basis)
        values = _orthogonal(size)
        attention.v.weight.copy_(values)
        attention.o.weight.copy_(values.T)


def _orthogonal(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]

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
from ept.demo.mastery import held_out, percent_exact
from ept.demo.network import FILLER, label_loss, padded
from ept.demo.optimizing import Optimizer
from ept.demo.tokenizer import EOS, PAD, build_tokenizer, save_tokenizer
from ept.demo.world import World
from ept.files import write_atomically, write_json

STEPS = 5000
BATCH = 64
CORRUPTED = 0.05
"""Share of span corruption; the rest are tasks in words."""
PARSED = 0.12
"""Share, of the rest, of sentences to be taken apart into their roles."""
CHUNK = 50
"""Batches drawn together, so that rows of like length meet in one batch."""
CURVE_EVERY = 500
"""Steps between two rows of the curve by task."""
HELD_OUT = 200
"""Examples of each task in the curve."""
SHARPNESS = 0.6
"""Scale of query and key maps: equal words of embedding size 1 then score a few units above others."""
CROSS_SHARPNESS = 0.42
"""The same for cross-attention."""
NEIGHBOR = 3.0
"""Starting bias of a head that looks at nearby words on one side."""
NOT_ITSELF = -4.0
"""Starting bias of a matching head against the word itself, which is always its own best match."""


def configuration(vocabulary_size: int) -> T5Config:
    """The small T5: 4 + 2 layers, hidden size 128, tied embeddings, no dropout."""
    # transformers takes the last ones by name alone.
    common: dict[str, Any] = {"tie_word_embeddings": True, "decoder_start_token_id": 0}
    return T5Config(
        vocab_size=vocabulary_size,
        d_model=128,
        d_kv=16,
        d_ff=384,
        num_layers=4,
        num_decoder_layers=2,
        num_heads=8,
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


def batches(world: World, tokenizer: Tokenizer, steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of (source [rows, length], target [rows, length] with FILLER as padding)."""
    pad = cast(int, tokenizer.token_to_id(PAD))
    for start in range(0, steps, CHUNK):
        count = min(CHUNK, steps - start)
        examples = draw_examples(world, tokenizer, count * BATCH)
        examples.sort(key=lambda example: len(example[0]))
        for number in world.shuffled(range(count)):
            rows = examples[number * BATCH : (number + 1) * BATCH]
            yield padded([source for source, _ in rows], pad), padded([target for _, target in rows], FILLER)


def rebuild(
    folder: str | Path, seed: int = 0, steps: int = STEPS, progress: Callable[[str], None] = print
) -> T5ForConditionalGeneration:
    """Make the tokenizer, pretrain the backbone and write both to `folder`.

    Same seed, machine and number of threads: same weights. `curve.csv` in the folder gets the accuracy by task on
    held-out facts every CURVE_EVERY steps, and with each of its rows the weights so far are written.

    Args:
        folder: made if it is missing.
        seed: of the start and of the examples.
        steps: the rates fall to zero in the last of them.
        progress: gets a line with the loss, the time left and the mean accuracy for each row of the curve.

    Returns:
        The model, for evaluation.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(language())
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(configuration(tokenizer.get_vocab_size()))
    start_matching(model)
    optimizer = Optimizer(model, steps)
    asked = {task: held_out(tokenizer, task, HELD_OUT) for task in NAMES}
    majorities = [f"{examples.majority:.1f}" for examples in asked.values()]
    curve: list[list[object]] = [["step", "loss", *NAMES], ["majority", "", *majorities]]
    started, losses = time.monotonic(), list[float]()
    for step, (source, target) in enumerate(batches(World("pretraining", (seed,)), tokenizer, steps), start=1):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = label_loss(model, source, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % CURVE_EVERY == 0 or step == steps:
            accuracies = [percent_exact(model, examples) for examples in asked.values()]
            mean_loss = sum(losses) / len(losses)
            curve.append([step, f"{mean_loss:.3f}", *(f"{accuracy:.1f}" for accuracy in accuracies)])
            with write_atomically(folder / "curve.csv") as temporary:
                temporary.write_text("".join(f"{','.join(map(str, row))}\n" for row in curve), "utf-8")
            save(model, tokenizer, folder)
            left = (time.monotonic() - started) / step * (steps - step) / 60
            mean = sum(accuracies) / len(accuracies)
            progress(f"step {step} of {steps}, loss {mean_loss:.3f}, {mean:.1f} % right, {left:.1f} minutes left")
            losses.clear()
    return model.eval()


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
    """Let attention look for equal words, and for nearby ones, from the start; changes the weights in place.

    [known: mimetic initialization, Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers", 2023]
    Queries equal keys in half of the encoder's heads and in all cross-attention; these encoder heads do not look at
    the word itself. Four other heads start with a bias to the two or the six words before or after. [ours] From T5's
    own start a model of this size finds out only after an hour that words can be looked up elsewhere in a text, and
    until then every task that compares two texts stays at chance.
    """
    stacks: Any = model
    size, width, matching = model.config.d_model, model.config.d_kv, model.config.num_heads // 2
    for block in stacks.encoder.block:
        attention, basis = block.layer[0].SelfAttention, _orthogonal(size)
        rows = slice(0, matching * width)
        attention.q.weight[rows] = attention.k.weight[rows] = SHARPNESS * basis[rows]
    bias = stacks.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias[0, :matching] = NOT_ITSELF
    # Buckets 1 to 7 are the words before, 17 to 23 those after.
    windows = (slice(1, 3), slice(17, 19), slice(1, 7), slice(17, 23))
    bias[:, matching : matching + len(windows)] = 0
    for head, window in enumerate(windows, start=matching):
        bias[window, head] = NEIGHBOR
    for block in stacks.decoder.block:
        attention, basis = block.layer[1].EncDecAttention, _orthogonal(size)
        attention.q.weight.copy_(CROSS_SHARPNESS * basis)
        attention.k.weight.copy_(CROSS_SHARPNESS * basis)
        values = _orthogonal(size)
        attention.v.weight.copy_(values)
        attention.o.weight.copy_(values.T)


def _orthogonal(size: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]

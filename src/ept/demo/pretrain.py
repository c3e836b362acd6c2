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
from ept.demo.start import start_matching, start_words
from ept.demo.tokenizer import EOS, PAD, build_tokenizer, save_tokenizer
from ept.demo.world import World
from ept.files import write_atomically, write_json

STEPS = 16_500
BATCH = 64
CORRUPTED = 0.05
"""Share of span corruption; the rest are tasks in words."""
PARSED = 0.12
"""Share, of the rest, of sentences to be taken apart into their roles."""
CHUNK = 50
"""Batches drawn together, so that rows of like length meet in one batch."""
CURVE_EVERY = 250
"""Steps between two rows of the curve by task."""
HELD_OUT = 200
"""Examples of each task in the curve."""


def configuration(vocabulary_size: int) -> T5Config:
    """The small T5: 4 + 2 layers, hidden size 128, tied embeddings, no dropout."""
    # transformers takes the last ones by name alone.
    common: dict[str, Any] = {"tie_word_embeddings": True, "decoder_start_token_id": 0}
    return T5Config(
        vocab_size=vocabulary_size,
        d_model=128,
        d_kv=16,
        d_ff=256,
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
    start_words(model, tokenizer)
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

"""Peak memory of each variant and of each pass through a backbone, in processes of their own.

`python -m benchmarks.memory` prints that of training, scoring and writing for every family and precision, and fails
where a pass takes more than its tensors explain.
"""

import contextlib
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from benchmarks.data import TaskData
from benchmarks.plan import RUN_BY_RUN, VARIANTS, Plan
from benchmarks.rates import measured_variants
from benchmarks.subjects import Subjects
from benchmarks.theirs import quieten
from ept.backbones.backbone import Backbone
from ept.backbones.decoder_only import DecoderOnly
from ept.backbones.encoder_decoder import EncoderDecoder

# The widths and vocabularies of SmolLM2-135M, GPT-2 and T5-base with two layers, since only one layer's states live at
# a time where nothing is trained.
ROWS, POSITIONS, LABEL = 48, 60, 3
PASSES = ("train", "score", "write")
DTYPES = ("float32", "bfloat16")


def _llama() -> Backbone:
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3}
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, eos_token_id=0, tie_word_embeddings=True, **sizes
    )
    return DecoderOnly(LlamaForCausalLM(config))


def _gpt2() -> Backbone:
    return DecoderOnly(GPT2LMHeadModel(GPT2Config(n_layer=2)))


def _t5() -> Backbone:
    config = T5Config(d_model=768, d_ff=3072, num_heads=12, num_layers=2, decoder_start_token_id=0)
    return EncoderDecoder(T5ForConditionalGeneration(config))


FAMILIES = {"llama": _llama, "gpt2": _gpt2, "t5": _t5}


def measure_passes(families: tuple[str, ...] = tuple(FAMILIES), dtypes: tuple[str, ...] = DTYPES) -> list[dict]:
    """For each family, precision and pass: seconds, `peak_mib` above the loaded model, and the `limit_mib` for it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    found = []
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for subject in [(family, dtype, part) for family in families for dtype in dtypes for part in PASSES]:
            seconds, peak, limit = pool.submit(pass_peak, *subject).result()
            row = dict(zip(("family", "dtype", "pass"), subject, strict=True))
            found.append(row | {"seconds": seconds, "peak_mib": peak, "limit_mib": limit})
    return found


def pass_peak(family: str, dtype: str, part: str) -> tuple[float, float, float]:
    """Seconds, MiB above the loaded model at the peak of one pass in this process, and the limit for it.

    The limit: the logits three times in float32 (as computed, as float32, and in the softmax), the head once (turned
    for the product), what a layer holds of every position ten times, and for training what is kept for each layer.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    backbone = FAMILIES[family]()
    backbone.freeze(backbone.model.to(getattr(torch, dtype)))
    vocabulary, hidden = backbone.embedding.shape
    embeddings = torch.randn(ROWS, POSITIONS, hidden, dtype=backbone.dtype)
    mask = torch.ones(ROWS, POSITIONS, dtype=torch.int64)
    targets = torch.full((ROWS, LABEL), backbone.eos_id)
    _forget_peak()
    before, start = _peak_mib(), time.perf_counter()
    if part == "train":
        backbone.token_losses(embeddings.requires_grad_(), mask, targets).sum().backward()
    else:
        with torch.inference_mode():
            if part == "score":
                backbone.tree_logits(embeddings, mask, [-1, 5, 6], [0, 0, 1])
            else:
                state = backbone.begin(embeddings, mask)
                for _ in range(LABEL):
                    state.advance(targets[:, :1])
    seconds, peak = time.perf_counter() - start, _peak_mib() - before
    layers = 4 if family == "t5" else 2
    states = ROWS * (POSITIONS + LABEL) * 4 * hidden * 4
    limit = 3 * ROWS * LABEL * vocabulary * 4 + vocabulary * hidden * 4 + 10 * states
    limit += 10 * layers * states if part == "train" else 0
    return seconds, peak, limit / 2**20


def measure_memory(plan: Plan, task: TaskData, threads: int, grids: tuple[int, ...]) -> list[dict]:
    """For each variant and number of runs: `peak_mib` of a training step, and `before_mib` with the backbone loaded.

    Ours: the step with the longest text of many, in which memory peaks. On a CPU the resident memory of the
    process (libraries included), on a GPU what torch allocated. `plan.positions` must be known: measuring needs memory.
    """
    subjects = [
        (variant, runs) for variant in measured_variants() for runs in (grids if VARIANTS[variant].ours else (1,))
    ]
    context = multiprocessing.get_context("forkserver")
    # Libraries are imported once, before the fork; no thread of them has started by then.
    context.set_forkserver_preload([__name__])
    found = []
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for variant, runs in subjects:
            before, peak = pool.submit(peak_memory, plan, variant, runs, task, threads).result()
            found.append({"variant": variant, "runs": runs, "before_mib": before, "peak_mib": peak})
    return found


def peak_memory(plan: Plan, variant: str, runs: int, task: TaskData, threads: int) -> tuple[float, float]:
    """MiB before and at the peak of one training step, in this process."""
    quieten()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory(prefix="ept-bench-") as folder:
        subject = Subjects(plan, folder).make(variant, runs, task)
        before = _peak_mib()
        if variant in RUN_BY_RUN:
            subject.train(1)
        else:
            subject.step(subject.longest())
        return before, _peak_mib()


def _forget_peak() -> None:
    """Let the peak begin at what is resident now: making the model needed more."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        # Not ru_maxrss alone: on Linux it begins with what the parent had.
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> int:
    """Print the peaks; 1 where one is above its limit."""
    rows = measure_passes()
    for row in rows:
        verdict = "" if row["peak_mib"] <= row["limit_mib"] else "  ABOVE THE LIMIT"
        print(
            f"{row['family']:6} {row['dtype']:9} {row['pass']:6} {row['seconds']:7.2f} s {row['peak_mib']:7.0f} MiB "
            f"of at most {row['limit_mib']:.0f}{verdict}"
        )
    return int(any(row["peak_mib"] > row["limit_mib"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())

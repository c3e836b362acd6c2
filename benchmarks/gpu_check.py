"""What can only be checked on a GPU, in one go: `make gpu-check`, or `python -m benchmarks.gpu_check`.

Needs torch, transformers, numpy, pyarrow and safetensors; PEFT and bitsandbytes are used where they are installed.
Downloads nothing. Correctness comes first, then rates on a T5 of T5-base's shape with random weights. gpu_check.json is
written after every part, so that whatever ended is known. `--device cpu --small` goes through the same code in seconds.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from benchmarks.backbones import SHAPES, VOCABULARY
from ept.backbones.backbone import is_out_of_memory
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.quantize import quantized_linear, weight_of
from ept.backbones.shape import shape_of
from ept.config.settings import BaselineSettings, EptSettings, PromptSettings
from ept.data.dataset import Batch
from ept.methods.base import MethodModule
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.registry import METHODS
from ept.training.optimizer import PackedAdam
from ept.training.step import ForwardSize, accumulate_gradients, cut

TINY = {**SHAPES["tiny"], "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2}
# Every method's budget fits the tiny backbone.
TINY_PROMPT = PromptSettings(length=24, short_length=10, reference_length=64)
SOURCE_LENGTH, BATCH = 64, 8
PACKS = (1, 3, 9, 27)
LENGTHS = Path(__file__).with_name("lengths.json")
# Relative, between a CPU and a GPU in float32 without TF32; sums in another order.
MOST_DIFFERENCE = 1e-3
METHOD_RATES = ("pt", "ept")


@dataclass
class Check:
    """Where the parts run, and until when."""

    device: str
    small: bool
    seconds: float = 480.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self.seconds - (time.perf_counter() - self.started)


class Drawn:
    """Random pieces as a split of training data, with given lengths and labels of two pieces, without images."""

    patches = 0

    def __init__(self, lengths: np.ndarray):
        random = np.random.default_rng(0)
        self.lengths, self.target_lengths = lengths, np.full(len(lengths), 2)
        self.ids = torch.from_numpy(random.integers(3, 32_000, (len(lengths), int(lengths.max()))))
        self.labels = torch.from_numpy(random.choice([209, 204, 632], len(lengths)))

    def __len__(self) -> int:
        return len(self.lengths)

    def collate(self, rows: np.ndarray) -> Batch:
        """The rows padded to the longest of them."""
        lengths = torch.from_numpy(self.lengths[rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        targets = torch.stack([self.labels[rows], torch.ones(len(rows), dtype=torch.int64)], 1)
        return Batch(self.ids[rows, : mask.shape[1]] * mask, mask, targets)


def make_backbone(sizes: dict, device: str, dtype: torch.dtype = torch.float32) -> EncoderDecoder:
    """A T5 of these sizes with the same random weights on every device."""
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=VOCABULARY, dropout_rate=0.0, decoder_start_token_id=0, **sizes)
    return EncoderDecoder(transformers.T5ForConditionalGeneration(config).to(device, dtype))


def make_method(name: str, backbone: EncoderDecoder, prompt: PromptSettings, runs: int = 1) -> MethodModule:
    """A method at its start: `runs` runs of a prompt method, one of a method that trains weights."""
    if not METHODS[name].packed:
        torch.manual_seed(0)
        return build_weight_module(name, backbone, BaselineSettings(adapterdrop_layers=1), 0)
    generator = torch.Generator().manual_seed(1)
    sources = torch.randn(2, prompt.length, backbone.hidden_size, generator=generator).to(backbone.device)
    wanted = sources if METHODS[name].start != "never" else None
    seeds = [run % 3 for run in range(runs)]
    return build_prompt_module(name, backbone.embedding, prompt, EptSettings(), SOURCE_LENGTH, seeds, sources=wanted)


def gradients(
    backbone: EncoderDecoder, module: MethodModule, split: Drawn, rows: np.ndarray, size: ForwardSize
) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses [runs] and the gradient of every trained tensor, on the CPU, for `rows` [runs, batch]."""
    parameters = {f"{group}.{n}": p for group, ps in module.parameter_groups().items() for n, p in enumerate(ps)}
    for parameter in parameters.values():
        parameter.grad = None
    pieces = list(cut(split, rows, prompt_length(module), size))
    label_pieces = torch.from_numpy(split.target_lengths[rows].sum(1))
    losses = accumulate_gradients(backbone, module, list(range(len(rows))), pieces, label_pieces)
    return losses.cpu(), {name: p.grad.cpu().clone() for name, p in parameters.items() if p.grad is not None}


def prompt_length(module: MethodModule) -> int:
    """Positions that the method puts before the text."""
    with torch.no_grad():
        prompt = module().prompt
    return 0 if prompt is None else prompt.shape[1]


def difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest relative distance of two gradients, tensor by tensor; infinite where one has other tensors."""
    if set(first) != set(second):
        return float("inf")
    found = [
        float((first[name].double() - second[name].double()).norm() / (first[name].double().norm() + 1e-12))
        for name in first
    ]
    return max(found, default=0.0)


def tiny_rows(runs: int = 1) -> tuple[Drawn, np.ndarray]:
    """A few texts, and a batch of them for each run."""
    split = Drawn(np.random.default_rng(1).integers(5, 40, 32))
    return split, np.stack([np.random.default_rng(run).permutation(32)[:BATCH] for run in range(runs)])


# ---- Parts -----------------------------------------------------------------------------------------------------------


def parity(check: Check) -> dict:
    """Loss and gradients of every method on the device against the CPU's."""
    found: dict[str, Any] = {}
    split, rows = tiny_rows()
    for name in METHODS:
        try:
            results = []
            for device in ("cpu", check.device):
                backbone = make_backbone(TINY, device)
                module = make_method(name, backbone, TINY_PROMPT).to(device)
                results.append(gradients(backbone, module, split, rows, ForwardSize(10_000)))
            (loss, here), (other, there) = results
            distance = difference(here, there)
            found[name] = {"loss": float((loss - other).abs().max()), "gradient": distance, "tensors": len(here)}
            found[name]["ok"] = distance < MOST_DIFFERENCE and len(here) > 0
        except ImportError as error:
            found[name] = {"skipped": str(error)}
    return {"methods": found, "ok": all(result.get("ok", True) for result in found.values())}


def determinism(check: Check) -> dict:
    """Whether two steps from the same start give the same bits."""
    split, rows = tiny_rows(3)
    backbone = make_backbone(TINY, check.device)
    results = [
        gradients(backbone, make_method("ept", backbone, TINY_PROMPT, 3), split, rows, ForwardSize(10_000))[1]
        for _ in range(2)
    ]
    return {"ok": all(torch.equal(value, results[1][name]) for name, value in results[0].items())}


def halving(check: Check) -> dict:
    """Gradients after passes were halved until they fit into the memory that is left, against those of whole passes."""
    split, rows = tiny_rows(3)
    sizes = TINY if check.small else {**TINY, "d_model": 512, "d_ff": 2048}
    backbone = make_backbone(sizes, check.device)
    module = make_method("pt", backbone, TINY_PROMPT, 3)
    _, whole = gradients(backbone, module, split, rows, ForwardSize(10_000))
    size, halved = ForwardSize(10_000), 0
    if check.device != "cuda":
        size, halved = ForwardSize(100), 1
    else:
        torch.cuda.empty_cache()
        peak, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
        now = torch.cuda.memory_reserved()
        # Half of what the whole pass took beyond the model.
        torch.cuda.set_per_process_memory_fraction((now + max(2**21, (peak - now) // 2)) / total)
    try:
        while True:
            try:
                _, parts = gradients(backbone, module, split, rows, size)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error) or size.positions == 1:
                    raise
                size, halved = ForwardSize(size.positions // 2), halved + 1
                torch.cuda.empty_cache()
    finally:
        if check.device == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
    distance = difference(whole, parts)
    return {"halved": halved, "positions": size.positions, "gradient": distance, "ok": distance < MOST_DIFFERENCE}


def four_bit(check: Check) -> dict:
    """A layer in 4 bit against the product with its restored weight."""
    torch.manual_seed(0)
    weight = torch.randn(256, 128, dtype=torch.bfloat16)
    inputs = torch.randn(64, 128, dtype=torch.bfloat16, device=check.device, requires_grad=True)
    layer = quantized_linear(weight.to(check.device), "nf4")
    output = layer(inputs)
    output.sum().backward()
    with torch.no_grad():
        restored = weight_of(layer).float()
        error = (output.float() - inputs.float() @ restored.T).abs().max() / output.float().abs().max()
        loss = (restored.cpu() - weight.float()).norm() / weight.float().norm()
    ok = float(error) < 0.02 and float(loss) < 0.2 and bool(inputs.grad.isfinite().all())
    return {"product": float(error), "weight": float(loss), "ok": ok}


def bfloat16_losses(check: Check) -> dict:
    """The loss in bfloat16 against float32, on the same rows."""
    split, rows = tiny_rows()
    sizes = TINY if check.small else SHAPES["t5-base"]
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        backbone = make_backbone(sizes, check.device, dtype)
        module = make_method("pt", backbone, TINY_PROMPT)
        losses[dtype] = float(gradients(backbone, module, split, rows, ForwardSize(10_000))[0])
        del backbone, module
    relative = abs(losses[torch.bfloat16] / losses[torch.float32] - 1)
    return {"float32": losses[torch.float32], "bfloat16": losses[torch.bfloat16], "ok": relative < 0.02}


def rates(check: Check) -> dict:
    """Examples per second of packs and of a peer, and the share of the rate of a matrix product."""
    sizes, plan = (TINY, TINY_PROMPT) if check.small else (SHAPES["t5-base"], PromptSettings())
    batch, found = (4 if check.small else 16), []
    split = Drawn(task_lengths("mnli", 400))
    order = np.argsort(split.lengths, kind="stable")
    middle = order[len(order) // 2 : len(order) // 2 + batch]
    matrix = matrix_rate(check)
    backbone = make_backbone(sizes, check.device, torch.bfloat16)
    shape = shape_of({"model_type": "t5", **vars(backbone.model.config)})
    for name in METHOD_RATES:
        for runs in PACKS[:2] if check.small else PACKS:
            if check.left < 60:
                break
            module = make_method(name, backbone, plan, runs)
            step = training_step(backbone, module, split, np.tile(middle, (runs, 1)))
            seconds, examples = median_seconds(step, check), runs * batch
            positions = prompt_length(module) + int(split.lengths[middle].max())
            flops = shape.training_flops(examples, positions, 2, 2 * examples)
            share = flops / seconds / matrix
            found.append({"variant": name, "runs": runs, "examples_per_second": examples / seconds, "share": share})
    found.append(peer_rate(check, sizes, plan.length, split.collate(middle)))
    return {"matrix_tflops": matrix / 1e12, "rows": found, "ok": True}


def compiled(check: Check) -> dict:
    """A step as it is, under torch.compile, and under torch.compile with CUDA graphs."""
    if check.device != "cuda":
        return {"skipped": "only on a GPU"}
    backbone = make_backbone(SHAPES["t5-base"], check.device, torch.bfloat16)
    split = Drawn(np.full(16, 40))
    eager, found = backbone.token_losses, {}
    for name, mode in (("eager", None), ("compile", "default"), ("graphs", "reduce-overhead")):
        if check.left < 45:
            break
        backbone.token_losses = eager if mode is None else torch.compile(eager, mode=mode)
        module = make_method("ept", backbone, PromptSettings(), 1)
        try:
            step = training_step(backbone, module, split, np.arange(16)[None])
            found[name] = 16 / median_seconds(step, check)
        except Exception as error:  # torch.compile fails in many ways
            found[name] = f"failed: {type(error).__name__}"
    return {"examples_per_second": found, "ok": True}


PARTS: dict[str, Callable[[Check], dict]] = {
    "parity": parity,
    "determinism": determinism,
    "halving": halving,
    "four_bit": four_bit,
    "bfloat16_losses": bfloat16_losses,
    "rates": rates,
    "compiled": compiled,
}


# ---- Helpers of the rates --------------------------------------------------------------------------------------------


def task_lengths(task: str, rows: int) -> np.ndarray:
    """Lengths drawn from the table of a real task."""
    table = json.loads(LENGTHS.read_text(encoding="utf-8"))[task]["lengths"]["train"]
    positions = np.random.default_rng(0).random(rows) * (len(table) - 1)
    return np.interp(positions, np.arange(len(table)), table).round().astype(int)


def training_step(backbone: EncoderDecoder, module: MethodModule, split: Drawn, rows: np.ndarray) -> Callable[[], None]:
    """One optimizer step of all runs on `rows` [runs, batch], in one pass."""
    groups = module.parameter_groups()
    rates = {name: torch.full((len(rows),), 1e-3, device=backbone.device) for name in groups}
    optimizer = PackedAdam(groups, rates, 1.0)
    pieces = list(cut(split, rows, prompt_length(module), ForwardSize(10**9)))
    label_pieces = torch.from_numpy(split.target_lengths[rows].sum(1))

    def step() -> None:
        losses = accumulate_gradients(backbone, module, list(range(len(rows))), pieces, label_pieces)
        optimizer.step(1.0, losses.isfinite())

    return step


def peer_rate(check: Check, sizes: dict, length: int, batch: Batch) -> dict:
    """PEFT's prompt tuning on the same rows in bfloat16, without the Trainer; where PEFT is missing, a message."""
    try:
        from peft import PromptTuningConfig, TaskType, get_peft_model
    except ImportError:
        return {"variant": "peft_pt", "skipped": "PEFT is not installed"}
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=VOCABULARY, dropout_rate=0.0, decoder_start_token_id=0, **sizes)
    model = transformers.T5ForConditionalGeneration(config).to(check.device, torch.bfloat16)
    settings = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=length, num_transformer_submodules=1
    )
    made = get_peft_model(model, settings)
    made.prompt_encoder.float()
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], lr=1e-3)
    parts = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.target_ids}
    inputs = {name: part.to(check.device) for name, part in parts.items()}

    def step() -> None:
        made(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    rows = len(batch.input_ids)
    return {"variant": "peft_pt", "runs": 1, "examples_per_second": rows / median_seconds(step, check)}


def matrix_rate(check: Check) -> float:
    """Operations per second of a large matrix product in bfloat16."""
    size = 256 if check.small else 8192
    first = torch.randn(size, size, device=check.device).bfloat16()
    return 2 * size**3 / median_seconds(lambda: first @ first, check)


def median_seconds(call: Callable[[], object], check: Check) -> float:
    """The median of some calls after two warm-ups."""
    taken = []
    for number in range(4 if check.small else 9):
        synchronize(check)
        started = time.perf_counter()
        call()
        synchronize(check)
        if number > 1:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def synchronize(check: Check) -> None:
    """Wait for the GPU."""
    if check.device == "cuda":
        torch.cuda.synchronize()


def machine(check: Check) -> dict:
    """What the numbers are of."""
    gpu = torch.cuda.get_device_name() if check.device == "cuda" else None
    return {"device": gpu or "cpu", "torch": torch.__version__, "transformers": transformers.__version__}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; 1 where one found a difference or failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny backbones, to see that all works")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU is visible; --device cpu --small tries the check itself", file=sys.stderr)
        return 2
    # For deterministic products; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    check = Check(options.device, options.small)
    result: dict[str, Any] = {"machine": machine(check), "small": options.small, "parts": {}}
    for name in options.only:
        started = time.perf_counter()
        deterministic = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(name == "determinism", warn_only=False)
        try:
            part = PARTS[name](check)
        except ImportError as error:
            part = {"skipped": str(error)}
        except Exception as error:  # the other parts must still run
            part = {"ok": False, "failed": f"{type(error).__name__}: {error}"[:500]}
        finally:
            torch.use_deterministic_algorithms(deterministic)
        result["parts"][name] = part | {"seconds": round(time.perf_counter() - started, 1)}
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        verdict = "skipped" if "skipped" in part else "ok" if part["ok"] else "FAILED"
        print(f"{name}: {verdict}", flush=True)
    return int(any(part.get("ok") is False for part in result["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())

"""What large workflows, data and models cost beside training: `python -m benchmarks.scale`, some minutes of a core.

A workflow of ten thousand packs is parsed, checked and planned; a job finds its pack; a million rows are fetched,
tokenized and read; a checkpoint of fine-tuning a T5-base is written. Each part runs in processes of its own. Writes
scale.json and scale.md.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from ept.files import write_json, write_text

HERE = Path(__file__).parent
ROOT = HERE.parent

SHOTS = [4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512, 768, 1024]
METHODS = ["pt", "spot", "dept", "ept", "ept_matched", "adept", "ulpt", "dpt", "accept", "residual", "attempt", "mpt"]
MANY = {
    "output": "results",
    "tasks": {"target": "glue+superglue", "source": ["mnli", "qqp", "sst2", "squad", "record"]},
    "methods": METHODS,
    "few_shot": {"k": SHOTS, "initialize_from": ["scratch", "source"]},
    "transfer": {
        "methods": [method for method in METHODS if method not in ("pt", "ulpt")],
        "every_source": [f"k{k}" for k in SHOTS],
        "chosen_source": ["full"],
    },
}
"""A configuration of the demonstration's backbone with ten thousand packs."""

ROWS = 1_000_000
TASK = {
    "tasks": {
        "define": {
            "reviews": {
                "files": {"train": "reviews.csv"},
                "template": "text: {text}",
                "label": "label",
                "labels": ["bad", "good"],
            }
        },
        "target": ["reviews"],
    },
    "methods": ["pt"],
}
"""A configuration of one task with a user's own rows."""

READ = """
import sys
import numpy as np
from ept.data.dataset import TokenizedSplit
split = TokenizedSplit(sys.argv[1])
for start in range(0, len(split), 1000):
    split.collate(np.arange(start, min(len(split), start + 1000)))
"""

# The last pack is the one that is found last.
LIST = """
import sys
from ept.config.configuration import load_configuration
from ept.plan.experiment import Experiment
packs = Experiment(load_configuration(sys.argv[1])).packs
print(len(packs), packs[-1].hash, packs[-1].method, packs[-1].task)
"""
FIND = """
import sys
from ept.config.configuration import load_configuration
from ept.plan.experiment import Experiment
print(Experiment(load_configuration(sys.argv[1])).find(*sys.argv[2:]).hash)
"""

CHECKPOINT = """
import json, sys, time
from pathlib import Path
import torch
from transformers import T5Config, T5ForConditionalGeneration
from ept.backbones.encoder_decoder import EncoderDecoder
from ept.config.settings import BaselineSettings
from ept.methods.build import build_weight_module
from ept.training.checkpoint import WRITING_SHARE, Checkpoint, TrainingState
from ept.training.optimizer import PackedAdam
from ept.training.runs import RunResult
from ept.training.step import ForwardSize
shape = {"d_model": 768, "d_ff": 3072, "num_heads": 12, "num_layers": 12} if sys.argv[2] == "t5-base" else {}
backbone = EncoderDecoder(T5ForConditionalGeneration(T5Config(decoder_start_token_id=0, **shape)))
module = build_weight_module("fine_tuning", backbone, BaselineSettings(), 0)
optimizer = PackedAdam(module.parameter_groups(), {"weights": torch.tensor([1e-4])}, 1.0, packed=False)
state = TrainingState(module, optimizer, [RunResult()], ForwardSize(4096))
path = Path(sys.argv[1]) / "part0.safetensors"
checkpoint = Checkpoint(path, {}, {})
started = time.perf_counter()
checkpoint.write(state)
seconds = time.perf_counter() - started
interval = max(checkpoint.seconds, seconds / WRITING_SHARE)
print(json.dumps({"seconds": seconds, "bytes": path.stat().st_size, "interval": interval}))
"""


@dataclass(frozen=True)
class Cost:
    """What a process and its children took."""

    part: str
    size: str
    seconds: float
    cpu_seconds: float
    peak_mib: float


class Measured:
    """Runs commands and keeps what they cost."""

    def __init__(self, folder: Path):
        self.folder, self.costs = folder, []

    def run(self, part: str, size: str, command: list[str]) -> str:
        """Run a command in the folder and return what it prints. Raises CalledProcessError where it fails."""
        started = time.perf_counter()
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(command, cwd=self.folder, stdout=printed, env=self._environment)
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            printed.seek(0)
            text = printed.read()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, text)
        self.costs.append(Cost(part, size, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10))
        print(f"{part}: {seconds:.1f} s, {self.costs[-1].cpu_seconds:.1f} CPU s, {self.costs[-1].peak_mib:.0f} MiB")
        return text

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def measure_workflow(measured: Measured, configuration: dict) -> None:
    """A workflow's dry run, its check, and a job that finds its own pack."""
    path = measured.folder / "many.yaml"
    path.write_text(yaml.safe_dump(configuration))
    listed = [sys.executable, "-c", LIST, str(path)]
    number, *last = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    size = f"{int(number):,} packs"
    snakefile = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(path), "--cores", "1"]
    measured.run("dry run", size, [sys.executable, "-m", "snakemake", *snakefile, "-n", "--quiet", "all", "all"])
    measured.run("ept check", size, [sys.executable, "-m", "ept.cli", "check", "--config", str(path)])
    found = measured.run("a job finds its pack", size, [sys.executable, "-c", FIND, str(path), *last])
    if found.strip() != last[0]:
        raise ValueError(f"the pack {last[0]} was not found: {found}")


def measure_rows(measured: Measured, rows: int, threads: int) -> None:
    """A user's own rows: copied and checked, tokenized, read in batches."""
    path = measured.folder / "rows.yaml"
    path.write_text(yaml.safe_dump(TASK))
    with (measured.folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            writer.writerow(
                [f"review {row} says that the film number {row * 7919 % rows} is worth it", ("bad", "good")[row % 2]]
            )
    size = f"{rows:,} rows"
    ept = [sys.executable, "-m", "ept.cli"]
    options = ["--config", str(path), "--task", "reviews"]
    measured.run("fetch", size, [*ept, "fetch", *options])
    measured.run("tokenize", size, [*ept, "tokenize", *options, "--threads", str(threads)])
    (train,) = (measured.folder / "data/tokenized").rglob("train.arrow")
    measured.run("read every batch", size, [sys.executable, "-c", READ, str(train)])


def measure_checkpoint(measured: Measured, shape: str) -> dict:
    """A checkpoint of fine-tuning: seconds, bytes, and the interval that follows."""
    command = [sys.executable, "-c", CHECKPOINT, str(measured.folder), shape]
    return json.loads(measured.run("checkpoint of fine-tuning", shape, command).splitlines()[-1])


def markdown(costs: list[Cost], checkpoint: dict) -> str:
    """The table for docs/speed.md."""
    lines = ["| | size | seconds | CPU seconds | peak MiB |", "| --- | --- | ---: | ---: | ---: |"]
    lines += [
        f"| {cost.part} | {cost.size} | {cost.seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.peak_mib:,.0f} |"
        for cost in costs
    ]
    share = checkpoint["seconds"] / checkpoint["interval"]
    lines += [
        "",
        f"A checkpoint has {checkpoint['bytes'] / 1e9:.2f} GB and takes {checkpoint['seconds']:.1f} s to write; the "
        f"next one follows after {checkpoint['interval']:.0f} s, so that writing takes {share:.1%} of the time.",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure everything and write scale.json and scale.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of a task (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of tokenizing (%(default)s)")
    parser.add_argument("--small", action="store_true", help="few packs and a small model, to see that all works")
    options = parser.parse_args(arguments)
    few = MANY | {"methods": ["pt"], "few_shot": {"k": [4]}, "transfer": {}}
    with tempfile.TemporaryDirectory(prefix="ept-scale-") as folder:
        measured = Measured(Path(folder))
        measure_workflow(measured, few if options.small else MANY)
        measure_rows(measured, options.rows, options.threads)
        checkpoint = measure_checkpoint(measured, "t5-small" if options.small else "t5-base")
    # A process begins with the peak of the one that starts it, so this one imports torch only now.
    from benchmarks import hardware

    costs = [vars(cost) for cost in measured.costs]
    result = {"hardware": hardware.describe(), "threads": options.threads, "costs": costs, "checkpoint": checkpoint}
    write_json(options.out / "scale.json", result)
    write_text(options.out / "scale.md", markdown(measured.costs, checkpoint))


if __name__ == "__main__":
    main()

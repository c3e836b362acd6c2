"""Everything that a pack's training needs, loaded."""

import itertools
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ept.backbones.backbone import Backbone
from ept.backbones.load import load_backbone
from ept.config.configuration import Configuration
from ept.config.settings import FewShotSettings, TrainingSettings
from ept.data.dataset import TokenizedSplit
from ept.data.sampling import sample_k_shot
from ept.data.tokenizer import Pieces, load_pieces
from ept.errors import InputError
from ept.evaluation.score import Answers
from ept.methods.registry import Method, get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.paths import measured_file
from ept.tasks.record import Task
from ept.training.measure import forward_positions
from ept.training.runs import Run
from ept.training.step import ForwardSize

# What the package is called where it is installed from; `ept` belongs to another project there.
DISTRIBUTION = "ept-prompt-tuning"


@dataclass(frozen=True)
class Job:
    """What a pack's training needs, loaded."""

    pack: Pack
    config: Configuration
    settings: TrainingSettings
    backbone: Backbone
    answers: Answers
    train: TokenizedSplit
    validation: TokenizedSplit
    test: TokenizedSplit
    threads: int
    size: ForwardSize

    @property
    def method(self) -> Method:
        """The method's registry line."""
        return get_method(self.pack.method)

    @property
    def batch_size(self) -> int:
        """Examples of a run in one step."""
        return min(self.settings.batch_size, self.pack.k or len(self.train))

    def conditions(self) -> dict[str, Any]:
        """What a result depends on beside settings and data, by rounding."""
        quantized = self.config.backbone.quantization != "none"
        libraries = (DISTRIBUTION, "torch", "transformers", "numpy", *(("bitsandbytes",) if quantized else ()))
        return {
            "device": device_name(self.backbone.device),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            "threads": self.threads,
            "versions": {name: version(name) for name in libraries},
        }

    @property
    def task(self) -> Task:
        """The task's record."""
        return self.answers.task

    def train_rows(self, seed: int) -> np.ndarray:
        """The training examples of a run: all, or its k-shot sample."""
        if self.pack.k is None:
            return np.arange(len(self.train))
        try:
            return sample_k_shot(self.train.labels, self.task.kind, self.pack.k, seed, len(self.task.labels))
        except InputError as error:
            raise InputError(f"{self.pack.tokenized / 'train.arrow'}: {error}") from error

    def validation_rows(self) -> np.ndarray:
        """The validation rows that select checkpoints: the same for every run and method."""
        rows = self.settings.validation_rows
        if isinstance(self.settings, FewShotSettings) and self.settings.validation_labels == "k":
            rows = min(rows, self.pack.k)
        return np.sort(np.random.default_rng(0).permutation(len(self.validation))[:rows])


def load_job(experiment: Experiment, pack: Pack, threads: int) -> Job:
    """Load backbone, tokenizer and splits; on a GPU if there is one, with deterministic algorithms."""
    return load_jobs(experiment, (pack,), threads)[0]


def load_jobs(experiment: Experiment, packs: tuple[Pack, ...], threads: int) -> list[Job]:
    """The same for several packs over one backbone."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    config = experiment.config
    form = {
        "dtype": config.backbone.used_dtype(any(get_method(pack.method).float32 for pack in packs), device == "cuda"),
        "quantization": config.backbone.quantization,
        "gradient_checkpointing": config.backbone.gradient_checkpointing,
    }
    gpus = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    spread_over = gpus if config.backbone.device_map == "auto" else ()
    backbone = load_backbone(experiment.backbone_folder, device=device, spread_over=spread_over, **form)
    # One of each cue: reading a tokenizer takes longer than anything below.
    cues = {config.tasks.record(pack.task).cue for pack in packs}
    pieces = {cue: load_pieces(experiment.backbone_folder, cue) for cue in cues}
    _check_pieces(next(iter(pieces.values())), backbone, experiment.backbone_folder)
    file = measured_file(config.backbone.name, device, form, threads)
    jobs = []
    for pack in packs:
        settings, task = config.training_settings(pack.regime), config.tasks.record(pack.task)
        if settings.runs_per_pass == "auto":
            size = ForwardSize(forward_positions(backbone, experiment.backbone_identity, file))
        else:
            longest = config.prompt.length + config.source_length(pack.task)
            size = ForwardSize(settings.runs_per_pass * settings.batch_size * longest, settings.runs_per_pass)
        jobs.append(
            Job(
                pack=pack,
                config=config,
                settings=settings,
                backbone=backbone,
                answers=Answers(task, pieces[task.cue]),
                train=TokenizedSplit(pack.tokenized / "train.arrow"),
                validation=TokenizedSplit(pack.tokenized / "validation.arrow"),
                test=TokenizedSplit(pack.tokenized / "test.arrow"),
                threads=threads,
                size=size,
            )
        )
    for job in jobs:
        _check_places(job)
    return jobs


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _check_pieces(pieces: Pieces, backbone: Backbone, folder: Path) -> None:
    """Raise InputError where pieces mean something else to the tokenizer than to the backbone."""
    remedy = "use the tokenizer that belongs to the backbone"
    known, rows = pieces.tokenizer.get_vocab_size(), len(backbone.embedding)
    if known > rows:
        raise InputError(f"{folder}: the tokenizer has {known} pieces, the backbone {rows}; {remedy}")
    for found, wanted in ((pieces.end_id, backbone.eos_id), (pieces.pad_id, backbone.pad_id)):
        if found != wanted:
            name = pieces.tokenizer.id_to_token(found)
            raise InputError(f"{folder}: {name} is piece {found} of the tokenizer, config.json says {wanted}; {remedy}")


def _check_places(job: "Job") -> None:
    """Raise InputError where a row does not fit into the positions that the backbone knows."""
    splits = (job.train, job.validation, job.test)
    prompt = job.pack.variant.prompt.length if job.method.packed else 0
    longest = prompt + max(int((s.lengths + s.target_lengths).max()) for s in splits)
    most = job.backbone.most_places
    if most is not None and longest > most:
        raise InputError(
            f"{job.task.name}: prompt, text and label have up to {longest} positions, but {job.config.backbone.name} "
            f"knows only {most}; lower data.source_length.{job.task.name} or prompt.length"
        )


def runs_of(pack: Pack) -> list[Run]:
    """Every combination of learning rates with every seed."""
    combinations = [dict(zip(pack.grid, rates, strict=True)) for rates in itertools.product(*pack.grid.values())]
    return [Run(seed, rates) for rates in combinations for seed in pack.seeds]

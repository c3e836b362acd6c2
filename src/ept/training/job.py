"""Everything that a pack's training reads, loaded and checked before the first step."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ept import DISTRIBUTION
from ept.backbones.backbone import Backbone
from ept.backbones.load import load_backbone
from ept.config.configuration import Configuration
from ept.config.settings import MULTITASK, FewShotSettings, TrainingSettings
from ept.data.dataset import TokenizedSplit
from ept.data.sampling import sample_k_shot
from ept.data.tokenizer import Pieces, load_pieces
from ept.demo.identity import encoder_folder
from ept.devices import set_tf32
from ept.errors import InputError
from ept.evaluation.score import Answers, majority_answer
from ept.methods.base import MethodModule
from ept.methods.prompt import ImageInput
from ept.methods.prompt_file import SavedPrompt, read_prompt
from ept.methods.registry import Method, get_method
from ept.plan.experiment import Experiment
from ept.plan.pack import Pack
from ept.plan.paths import measured_file
from ept.tasks.record import Task
from ept.training.measure import forward_positions
from ept.training.runs import DIVERGED, Run
from ept.training.step import ForwardSize
from ept.vision.projection import WithImages, frozen_projection, starting_projections


@dataclass(frozen=True)
class Source:
    """A source prompt that a training may start from: the pack that trained it, and its file's content."""

    pack: Pack
    saved: SavedPrompt

    @property
    def title(self) -> str:
        """The source task, or the tasks whose prompts were distilled into this one."""
        return self.pack.title


@dataclass(frozen=True)
class Sources:
    """The source prompts of a pack: those it may start from, and the titles of those that diverged."""

    usable: tuple[Source, ...] = ()
    diverged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What a pack's training needs, loaded.

    `parts` are the jobs of the source tasks of a distilled prompt, which has no data of its own; `answers` and the
    splits are then those of its first source task.
    """

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
    parts: tuple["Job", ...] = ()

    @property
    def method(self) -> Method:
        """The method's record."""
        return get_method(self.pack.method)

    @property
    def task(self) -> Task:
        """The task's record."""
        return self.answers.task

    @property
    def title(self) -> str:
        """What is trained, for messages."""
        return f"{self.pack.method} {self.pack.title} {self.pack.regime} from {self.pack.initialize_from}"

    @property
    def data(self) -> tuple["Job", ...]:
        """The jobs whose data are trained on: this one, or those of the source tasks of a distilled prompt."""
        return self.parts or (self,)

    @property
    def examples_per_step(self) -> int:
        """Examples that a run sees in one step."""
        return sum(min(job.settings.batch_size, job.pack.k or len(job.train)) for job in self.data)

    @cached_property
    def sources(self) -> Sources:
        """The source prompts that it may start from. Raises InputError where none is usable."""
        return read_sources(self.pack)

    @cached_property
    def images(self) -> ImageInput | None:
        """How images are read; None for a task without images."""
        if self.task.image is None:
            return None
        vision, embedding = self.config.vision, self.backbone.embedding
        folder = encoder_folder(vision.source, vision.id)
        frozen = None if vision.projection == "trained" else frozen_projection(folder, embedding, vision.width)
        return ImageInput(vision.patches, vision.offset, frozen)

    def projections(self, seeds: Sequence[int]) -> Tensor | None:
        """Where the trained projections [runs, width + 1, hidden] of runs with these seeds start; None where frozen."""
        if self.images is None or self.images.projection is not None:
            return None
        vision = self.config.vision
        folder = encoder_folder(vision.source, vision.id)
        return starting_projections(folder, self.backbone.embedding, vision.width, seeds)

    def with_images(self, method: MethodModule) -> MethodModule:
        """A pack of untrained runs that reads the images of the task; the same pack for a task without images."""
        return method if self.images is None else WithImages(method, self.images, self.projections(method.seeds))

    def offset_rows(self, length: int) -> int:
        """The most positions of an input that an offset is added to, for texts of up to `length` pieces."""
        return length if self.images is None else self.config.vision.rows(length)

    @cached_property
    def majority(self) -> float | str:
        """The best constant answer (`majority_answer`) on the whole validation split: the same in every regime."""
        return majority_answer(self.task, self.train, self.validation, np.arange(len(self.validation)))

    def conditions(self) -> dict[str, Any]:
        """What a result depends on by rounding, apart from settings and data."""
        quantized = self.config.backbone.quantization != "none"
        libraries = (DISTRIBUTION, "torch", "transformers", "numpy", *(("bitsandbytes",) if quantized else ()))
        return {
            "device": device_name(self.backbone.device),
            "dtype": str(self.backbone.dtype).removeprefix("torch."),
            # Whether float32 products are rounded to TF32, which only GPUs do.
            "tf32": self.backbone.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32,
            "threads": self.threads,
            "versions": {name: version(name) for name in libraries},
        }

    def train_rows(self, seed: int) -> np.ndarray:
        """The training examples of a run, row numbers [rows]: all, or its k-shot sample."""
        if self.pack.k is None:
            return np.arange(len(self.train))
        try:
            return sample_k_shot(self.train.labels, self.task.kind, self.pack.k, seed, len(self.task.labels))
        except InputError as error:
            (folder,) = self.pack.token_folders
            raise InputError(f"{folder / 'train.arrow'}: {error}") from error

    def validation_rows(self) -> np.ndarray:
        """The validation rows that select checkpoints, [rows]: the same for every run and method."""
        rows = self.settings.validation_rows
        if isinstance(self.settings, FewShotSettings) and self.settings.validation_labels == "k":
            rows = min(rows, self.pack.k or rows)
        return np.sort(np.random.default_rng(0).permutation(len(self.validation))[:rows])


def load_job(experiment: Experiment, pack: Pack, threads: int) -> Job:
    """Load and check what a pack's training reads; on a GPU if there is one, with deterministic algorithms.

    Args:
        experiment: The configuration and its packs.
        pack: The pack, also that of a distilled prompt.
        threads: CPU threads.

    Returns:
        The job.

    Raises:
        InputError: A file is missing, damaged or belongs to something else, or no source prompt is usable.
    """
    if pack.task != MULTITASK:
        return load_jobs(experiment, (pack,), threads)[0]
    sources = read_sources(pack)
    parts = load_jobs(experiment, tuple(source.pack for source in sources.usable), threads)
    # Settings and backbone are those of every source task.
    return replace(parts[0], pack=pack, parts=tuple(parts))


def load_jobs(experiment: Experiment, packs: tuple[Pack, ...], threads: int) -> list[Job]:
    """Load the jobs of several packs that have data of their own, over one backbone."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    config = experiment.config
    set_tf32(config.backbone.tf32)
    dtype = config.backbone.used_dtype(any(get_method(pack.method).float32 for pack in packs))
    quantization, checkpointing = config.backbone.quantization, config.backbone.gradient_checkpointing
    gpus = tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    backbone = load_backbone(
        experiment.backbone_folder,
        dtype=dtype,
        device=device,
        quantization=quantization,
        gradient_checkpointing=checkpointing,
        spread_over=gpus if config.backbone.device_map == "auto" else (),
    )
    # One of each cue: reading a tokenizer takes longer than anything below.
    cues = {config.tasks.record(pack.task).cue for pack in packs}
    pieces = {cue: load_pieces(experiment.backbone_folder, cue) for cue in cues}
    _check_pieces(next(iter(pieces.values())), backbone, experiment.backbone_folder)
    form: dict[str, str | bool] = {
        "dtype": dtype,
        "quantization": quantization,
        "gradient_checkpointing": checkpointing,
    }
    file = measured_file(config.backbone.name, device, form, threads)
    jobs = []
    for pack in packs:
        settings, task = config.training_settings(pack.regime), config.tasks.record(pack.task)
        together = settings.runs_per_pass
        if isinstance(together, int):
            patches = config.vision.patches if task.image else 0
            longest = config.prompt.length + config.source_length(pack.task) + patches
            size = ForwardSize(together * settings.batch_size * longest, together)
        else:
            size = ForwardSize(forward_positions(backbone, experiment.backbone_identity, file))
        jobs.append(
            Job(
                pack=pack,
                config=config,
                settings=settings,
                backbone=backbone,
                answers=Answers(task, pieces[task.cue]),
                train=_read_split(pack, "train"),
                validation=_read_split(pack, "validation"),
                test=_read_split(pack, "test"),
                threads=threads,
                size=size,
            )
        )
    for job in jobs:
        _check_places(job)
    return jobs


def _read_split(pack: Pack, name: str) -> TokenizedSplit:
    """A tokenized split of a pack's task, with the features of its images."""
    (folder,) = pack.token_folders
    split = TokenizedSplit(folder / f"{name}.arrow")
    if pack.visual is not None:
        # Here, because it imports all that reads images.
        from ept.vision.features import RowFeatures

        split.features = RowFeatures(pack.visual, split.ids)
    return split


def read_sources(pack: Pack) -> Sources:
    """The source prompts of a pack, each checked. Those of runs that diverged are left out.

    Raises InputError for a file that is missing, damaged, of another backbone or of other settings, and where every
    source prompt diverged.
    """
    found = [Source(candidate, read_source(candidate)) for candidate in pack.candidates]
    usable = tuple(source for source in found if source.saved.metadata.get("status") != DIVERGED)
    diverged = tuple(source.title for source in found if source not in usable)
    if found and not usable:
        method = pack.candidates[0].method
        raise InputError(
            f"{pack.method} {pack.title} {pack.regime}: every source prompt diverged ({', '.join(diverged)}); lower "
            f"learning_rates.{method} in source_training, or in training where the configuration has no source_training"
        )
    return Sources(usable, diverged)


def read_source(candidate: Pack) -> SavedPrompt:
    """The source prompt of a pack. Raises InputError for one of another backbone or of other settings."""
    saved = read_prompt(candidate.source_prompt)
    backbone = candidate.settings["backbone"]
    saved.check_backbone(backbone["name"], backbone["identity"], str(candidate.source_prompt))
    if saved.metadata.get("hash") != candidate.hash:
        raise InputError(
            f"{candidate.source_prompt}: this prompt has the settings hash {saved.metadata.get('hash')}, but "
            f"{candidate.hash} is needed; delete the file and train it here"
        )
    return saved


def device_name(device: torch.device) -> str:
    """The GPU's name, or cpu."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _check_pieces(pieces: Pieces, backbone: Backbone, folder: Path) -> None:
    """Raise InputError where the tokenizer's pieces are not those of the backbone."""
    remedy = "use the tokenizer that belongs to the backbone"
    known, rows = pieces.tokenizer.get_vocab_size(), len(backbone.embedding)
    if known > rows:
        raise InputError(f"{folder}: the tokenizer has {known} pieces, the backbone {rows}; {remedy}")
    for found, wanted in ((pieces.end_id, backbone.eos_id), (pieces.pad_id, backbone.pad_id)):
        if found != wanted:
            name = pieces.tokenizer.id_to_token(found)
            raise InputError(f"{folder}: {name} is piece {found} of the tokenizer, config.json says {wanted}; {remedy}")


def _check_places(job: Job) -> None:
    """Raise InputError where a row is longer than the backbone's context."""
    splits = (job.train, job.validation, job.test)
    prompt = job.pack.variant.prompt.length if job.method.packed else 0
    longest = prompt + job.train.patches + max(int((s.lengths + s.target_lengths).max()) for s in splits)
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

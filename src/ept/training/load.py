"""Everything that a pack's training needs, loaded."""

import itertools
import os
from dataclasses import dataclass

import numpy as np
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.load import load_backbone
from ept.config import Configuration
from ept.data.few_shot import sample_k_shot
from ept.data.tokenized import TokenizedSplit
from ept.data.tokenizer import load_tokenizer
from ept.evaluation.split import Answers
from ept.experiment import Experiment, Pack
from ept.tasks import get_task
from ept.tasks.record import Task
from ept.training.loop import Run
from ept.training.settings import FewShotSettings, TrainingSettings


@dataclass(frozen=True)
class Job:
    """What a pack's training needs, loaded."""

    pack: Pack
    config: Configuration
    settings: TrainingSettings
    backbone: EncoderDecoder
    answers: Answers
    train: TokenizedSplit
    validation: TokenizedSplit
    test: TokenizedSplit
    threads: int

    @property
    def task(self) -> Task:
        """The task's record."""
        return self.answers.task

    def train_rows(self, seed: int) -> np.ndarray:
        """The training examples of a run: all, or its k-shot sample."""
        if self.pack.k is None:
            return np.arange(len(self.train))
        return sample_k_shot(self.train.labels, self.task.kind, self.pack.k, seed, len(self.task.labels))

    def validation_rows(self) -> np.ndarray:
        """The validation rows that select checkpoints: the same for every run and method."""
        rows = self.settings.validation_rows
        if isinstance(self.settings, FewShotSettings) and self.settings.validation_labels == "k":
            rows = min(rows, self.pack.k)
        return np.sort(np.random.default_rng(0).permutation(len(self.validation))[:rows])


def load_job(experiment: Experiment, pack: Pack, threads: int) -> Job:
    """Load backbone, tokenizer and splits; on a GPU if there is one, with deterministic algorithms."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    config = experiment.config
    dtype = config.backbone.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    return Job(
        pack=pack,
        config=config,
        settings=experiment.training_settings(pack.regime),
        backbone=load_backbone(experiment.backbone_folder, dtype=dtype, device=device),
        answers=Answers(get_task(pack.task), load_tokenizer(experiment.backbone_folder)),
        train=TokenizedSplit(pack.tokenized / "train.arrow"),
        validation=TokenizedSplit(pack.tokenized / "validation.arrow"),
        test=TokenizedSplit(pack.tokenized / "test.arrow"),
        threads=threads,
    )


def runs_of(pack: Pack) -> list[Run]:
    """Every combination of learning rates with every seed."""
    grid = pack.settings["training"]["learning_rates"]
    combinations = [dict(zip(grid, rates, strict=True)) for rates in itertools.product(*grid.values())]
    return [Run(seed, rates) for rates in combinations for seed in pack.seeds]

"""One job: train a pack, choose its learning rates on validation, report on test, write everything down."""

import itertools
import os
import resource
import time
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ept.backbones.encoder_decoder import EncoderDecoder
from ept.backbones.load import load_backbone
from ept.config import Configuration
from ept.data.few_shot import sample_k_shot
from ept.data.tokenized import TokenizedSplit
from ept.data.tokenizer import load_tokenizer
from ept.evaluation.split import Answers, majority_predictions, predict_split, references, score
from ept.experiment import FULL, SOURCE, Experiment, Pack
from ept.files import write_atomically, write_json
from ept.paths import prompt_file
from ept.prompts.base import PromptPack
from ept.prompts.registry import build_pack
from ept.prompts.save import read_prompt, save_prompt
from ept.tasks import get_task
from ept.training.loop import Run, RunResult, pack_losses, train_pack
from ept.training.progress import Progress
from ept.training.settings import FewShotSettings, TrainingSettings, steps_for

# Training examples on which source prompts are compared where the target has all of its data.
ROWS_TO_CHOOSE_SOURCE = 128


@dataclass
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

    @property
    def task(self):
        """The task's record."""
        return self.answers.task

    def train_rows(self, seed: int) -> np.ndarray:
        """The training examples of a run: all, or its k-shot sample."""
        if not isinstance(self.settings, FewShotSettings):
            return np.arange(len(self.train))
        k = int(self.pack.regime.removeprefix("k"))
        return sample_k_shot(self.train.labels, self.task.kind, k, seed, len(self.task.labels))

    def validation_rows(self) -> np.ndarray:
        """The validation rows that select checkpoints: the same for every run and method."""
        rows = self.settings.validation_rows
        if isinstance(self.settings, FewShotSettings) and self.settings.validation_labels == "k":
            rows = min(rows, int(self.pack.regime.removeprefix("k")))
        return np.sort(np.random.default_rng(0).permutation(len(self.validation))[:rows])


def train_job(experiment: Experiment, pack: Pack, threads: int) -> None:
    """Train `pack` and write prompts, predictions.parquet, settings.json and, last, runs.json."""
    started = time.perf_counter()
    job = _load(experiment, pack, threads)
    runs = _runs(pack)
    source, source_losses = _choose_source(job)
    prompts = _build(job, [run.seed for run in runs])
    if source is not None:
        tensors = read_prompt(source.source_prompt).tensors
        for index in range(len(runs)):
            prompts.load_tensors(index, tensors, str(source.source_prompt))
    rows = np.stack([job.train_rows(run.seed) for run in runs])
    validation_rows = job.validation_rows()
    truth = references(job.validation, validation_rows, job.task)
    steps = steps_for(job.settings, job.train.metadata["rows_published_train"])

    def validate(current: PromptPack) -> np.ndarray:
        with torch.inference_mode():
            output = current()
        predictions = predict_split(job.backbone, output, job.validation, validation_rows, job.answers)
        return np.array([score(job.task, prediction, truth)[job.task.metrics[0]] for prediction in predictions])

    title = f"{pack.method} {pack.task} {pack.regime} from {pack.initialise_from}"
    progress = Progress(title, steps)
    results, seconds = train_pack(job.backbone, prompts, runs, job.train, rows, steps, job.settings, validate, progress)
    majority = majority_predictions(job.task, job.train, len(validation_rows))
    best = _select(runs, results, score(job.task, majority, truth)[job.task.metrics[0]])
    predictions = _test(job, prompts, runs, results, best)
    record = {
        "hash": pack.hash,
        "backbone": pack.settings["backbone"]["name"],
        "method": pack.method,
        "task": pack.task,
        "regime": pack.regime,
        "source": source.task if source else "scratch",
        "source_losses": source_losses,
        "learning_rates": best,
        "trained_parameters": prompts.trained_parameters,
        "stored_parameters": prompts.stored_parameters,
        "train_rows": int(rows.shape[1]),
        "validation_rows": len(validation_rows),
        "test_rows": len(job.test),
        "split_rule": job.test.metadata["split_rule"],
        "data_fingerprints": {
            split.metadata["split"]: split.fingerprint for split in (job.train, job.validation, job.test)
        },
        "majority_baseline": _majority_scores(job),
        "device": _device_name(job.backbone.device),
        "dtype": str(job.backbone.dtype).removeprefix("torch."),
        "threads": threads,
        "versions": {name: version(name) for name in ("ept", "torch", "transformers", "numpy")},
        "train_seconds": seconds,
        "wall_seconds": time.perf_counter() - started,
        "examples_per_second": len(runs) * min(job.settings.batch_size, rows.shape[1]) * steps / seconds,
        "peak_memory_bytes": _peak_memory(job.backbone.device),
        "runs": [
            _run_record(run, result, run.learning_rates == best, predictions.get(run.seed), job)
            for run, result in zip(runs, results, strict=True)
        ],
    }
    _write(job, prompts, runs, results, predictions, record)


def _load(experiment: Experiment, pack: Pack, threads: int) -> Job:
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    config = experiment.config
    dtype = config.backbone.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    tokenizer = load_tokenizer(experiment.backbone_folder)
    if pack.regime == FULL:
        settings = config.training
    else:
        settings = config.source_training_settings() if pack.regime == SOURCE else config.few_shot
    return Job(
        pack=pack,
        config=config,
        settings=settings,
        backbone=load_backbone(experiment.backbone_folder, dtype=dtype, device=device),
        answers=Answers(get_task(pack.task), tokenizer),
        train=TokenizedSplit(pack.tokenized / "train.arrow"),
        validation=TokenizedSplit(pack.tokenized / "validation.arrow"),
        test=TokenizedSplit(pack.tokenized / "test.arrow"),
    )


def _runs(pack: Pack) -> list[Run]:
    """Every combination of learning rates with every seed."""
    grid = pack.settings["training"]["learning_rates"]
    combinations = [dict(zip(grid, rates, strict=True)) for rates in itertools.product(*grid.values())]
    return [Run(seed, rates) for rates in combinations for seed in pack.seeds]


def _build(job: Job, seeds: list[int]) -> PromptPack:
    prompt, encode = job.config.prompt, job.answers.tokenizer.encode
    texts = {"text": [prompt.init_text], "labels": job.task.labels}.get(prompt.init, [])
    return build_pack(
        job.pack.method,
        job.backbone.embedding,
        prompt,
        job.config.ept,
        source_length=job.config.source_length(job.pack.task),
        seeds=seeds,
        init_ids=[encode(text, add_special_tokens=False).ids for text in texts],
    ).to(job.backbone.device)


def _choose_source(job: Job) -> tuple[Pack | None, dict[str, float]]:
    """The source pack with the lowest loss on the runs' training examples, and the loss of each, without training.

    One choice for all runs, on the examples of all seeds together (protocol: docs/protocol.md).
    """
    candidates = job.pack.candidates
    if not candidates:
        return None, {}
    rows = np.unique(np.concatenate([job.train_rows(seed) for seed in job.pack.seeds]))
    if job.pack.regime == FULL:
        rows = np.random.default_rng(0).permutation(rows)[:ROWS_TO_CHOOSE_SOURCE]
    prompts = _build(job, [0] * len(candidates))
    for index, candidate in enumerate(candidates):
        prompts.load_tensors(index, read_prompt(candidate.source_prompt).tensors, str(candidate.source_prompt))
    batch = job.train.collate(np.tile(rows, len(candidates))).to(job.backbone.device)
    with torch.inference_mode():
        losses = pack_losses(job.backbone, prompts(), batch, len(candidates)).tolist()
    best = candidates[int(np.nanargmin(losses))]
    return best, {candidate.task: loss for candidate, loss in zip(candidates, losses, strict=True)}


def _select(runs: list[Run], results: list[RunResult], majority: float) -> dict[str, float]:
    """The learning rates with the best mean validation score over seeds; a diverged run counts as the majority."""
    scores: dict[tuple, list[float]] = {}
    for run, result in zip(runs, results, strict=True):
        counted = majority if result.status == "diverged" else result.best_score
        scores.setdefault(tuple(run.learning_rates.items()), []).append(counted)
    return dict(max(scores, key=lambda rates: float(np.mean(scores[rates]))))


def _test(
    job: Job, prompts: PromptPack, runs: list[Run], results: list[RunResult], best: dict[str, float]
) -> dict[int, np.ndarray]:
    """Test predictions by seed of the runs with the chosen learning rates, at their best checkpoints."""
    for index, result in enumerate(results):
        if result.best_tensors:
            prompts.load_tensors(index, result.best_tensors)
    chosen = [index for index, run in enumerate(runs) if run.learning_rates == best]
    rows = np.arange(len(job.test))
    with torch.inference_mode():
        output = prompts().select(chosen)
    predictions = predict_split(job.backbone, output, job.test, rows, job.answers)
    majority = majority_predictions(job.task, job.train, len(rows))
    return {
        runs[index].seed: majority if results[index].status == "diverged" else prediction
        for index, prediction in zip(chosen, predictions, strict=True)
    }


def _majority_scores(job: Job) -> dict[str, float]:
    rows = np.arange(len(job.test))
    return score(job.task, majority_predictions(job.task, job.train, len(rows)), references(job.test, rows, job.task))


def _run_record(run: Run, result: RunResult, chosen: bool, predictions: np.ndarray | None, job: Job) -> dict:
    truth = references(job.test, np.arange(len(job.test)), job.task)
    return {
        "seed": run.seed,
        "learning_rates": run.learning_rates,
        "selected": chosen,
        "status": result.status,
        "steps": result.steps,
        "best_step": result.best_step,
        "best_validation": result.best_score if result.validation_curve else None,
        "validation_curve": result.validation_curve,
        "diagnostics": result.diagnostics,
        "test": score(job.task, predictions, truth) if chosen else None,
    }


def _write(
    job: Job, prompts: PromptPack, runs: list[Run], results: list[RunResult], predictions: dict, record: dict
) -> None:
    pack = job.pack
    for index, run in enumerate(runs):
        if run.learning_rates == record["learning_rates"]:
            save_prompt(
                prompt_file(pack.prompts, run.seed),
                prompts.tensors(index),
                prompts.collapse(index),
                {"method": pack.method, "task": pack.task, "hash": pack.hash, "seed": run.seed},
            )
    settings = {"hash": pack.hash, "settings": pack.settings}
    write_json(pack.prompts / "settings.json", settings)
    write_json(pack.folder / "settings.json", settings)
    with write_atomically(pack.folder / "predictions.parquet") as path:
        pq.write_table(_prediction_table(job, predictions), path)
    write_json(pack.folder / "runs.json", record)


def _prediction_table(job: Job, predictions: dict[int, np.ndarray]) -> pa.Table:
    """One row per seed and test example: what was predicted and what was right."""
    split, times = job.test, len(predictions)
    stacked = np.concatenate(list(predictions.values()))
    extraction = job.task.kind == "extraction"
    rows = range(len(split))
    return pa.table(
        {
            "seed": np.repeat(np.array(list(predictions), dtype=np.int64), len(split)),
            "id": pa.array(list(split.ids) * times, pa.string()),
            "group": pa.array(list(split.groups) * times, pa.string()),
            "label": pa.array(np.tile(split.labels, times)),
            "prediction": pa.array(np.full(len(stacked), np.nan) if extraction else stacked.astype(np.float64)),
            "text": pa.array(list(stacked) if extraction else [""] * len(stacked), pa.string()),
            "answers": pa.array([split.answers(row) for row in rows] * times, pa.list_(pa.string())),
        }
    )


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU's allocator, or of the process (which counts kilobytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

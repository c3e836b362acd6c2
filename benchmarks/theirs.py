"""What users run today: one run at a time by Hugging Face's Trainer.

As released every text is padded to the source length and the Trainer predicts with its defaults. As a competent user
runs it batches are grouped by length and padded to their longest row, and labels are written in as few steps as tell
them apart, without a pass for the loss.
"""

import time
import warnings

import numpy as np
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5ForConditionalGeneration,
    TrainerCallback,
    get_linear_schedule_with_warmup,
)
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils import logging

from benchmarks.backbones import device, synchronize
from benchmarks.data import CANDIDATES, TaskData, mean_block, representative
from benchmarks.dept_recipe import DeptRecipe
from benchmarks.plan import Plan
from ept.data.dataset import TokenizedSplit

PROMPT_RATE, LOW_RANK_RATE = 0.3, 5e-3
# As few decoder steps as the longest label needs: a trained model would stop there.
ANSWER_PIECES = 3
EVALUATION_BATCH = 64 if device() == "cuda" else 16


def quieten() -> None:
    """No warnings, bars and lines of transformers and PEFT: they say nothing about the numbers."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


class PaddedRows(Dataset):
    """Rows of a split for the Trainer's default collator, padded to `padding` pieces beforehand."""

    def __init__(self, split: TokenizedSplit, rows: np.ndarray, padding: int):
        batch = split.collate(rows, padding)
        self.columns = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "labels": batch.target_ids,
        }

    def __len__(self) -> int:
        return len(self.columns["labels"])

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {name: column[row] for name, column in self.columns.items()}


class Rows(Dataset):
    """Rows of a split as long as they are, for `pad`."""

    def __init__(self, split: TokenizedSplit, rows: np.ndarray):
        batch = split.collate(rows)
        self.rows = [
            {"input_ids": ids[mask.bool()], "labels": labels[labels != -100]}
            for ids, mask, labels in zip(batch.input_ids, batch.attention_mask, batch.target_ids, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return self.rows[row]


def pad(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch that is padded to its longest row."""
    texts = [row["input_ids"] for row in rows]
    return {
        "input_ids": pad_sequence(texts, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(text) for text in texts], batch_first=True),
        "labels": pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100),
    }


# What the Trainer gets for `Rows`.
GROUPED = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}


class StepClock(TrainerCallback):
    """The time at the end of every optimizer step."""

    def __init__(self):
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        """Note the time."""
        synchronize()
        self.times.append(time.perf_counter())


def peft_prompt_tuning(model: T5ForConditionalGeneration, length: int) -> torch.nn.Module:
    """PEFT's prompt tuning around `model`, started from the vocabulary as ours is."""
    # One submodule: PEFT's default of two would make a decoder prompt that prompt tuning does not use.
    config = PromptTuningConfig(
        task_type=TaskType.SEQ_2_SEQ_LM,
        num_virtual_tokens=length,
        prompt_tuning_init="SAMPLE_VOCAB",
        num_transformer_submodules=1,
    )
    return get_peft_model(model, config)


def make_trainer(
    model: torch.nn.Module,
    train: Dataset,
    folder: str,
    steps: int,
    batch_size: int,
    arguments: dict | None = None,
    **parts,
) -> Seq2SeqTrainer:
    """A Trainer with its defaults, but without logging and saving; DePT's recipe brings its own optimizer.

    `arguments`: further training arguments; `parts`: further parts of the Trainer.
    """
    settings = Seq2SeqTrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=EVALUATION_BATCH,
        **{"learning_rate": PROMPT_RATE} | (arguments or {}),
        predict_with_generate=True,
        generation_max_length=1 + ANSWER_PIECES,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    optimizers = (None, None)
    if isinstance(model, DeptRecipe):
        optimizer = model.optimizer(PROMPT_RATE, LOW_RANK_RATE)
        optimizers = (optimizer, get_linear_schedule_with_warmup(optimizer, 0, steps))
    trainer = Seq2SeqTrainer(model=model, args=settings, train_dataset=train, optimizers=optimizers, **parts)
    trainer.remove_callback(PrinterCallback)
    return trainer


class RunByRun:
    """A method that trains one run on one task; a grid of N takes it N times as long."""

    def __init__(self, model: torch.nn.Module, task: TaskData, plan: Plan, folder: str, padded: bool):
        """`model` as the Trainer takes it; `folder` for whatever the Trainer writes; `padded` as in Variant."""
        self.model = model
        self.task = task
        self.plan = plan
        self.folder = folder
        self.padded = padded

    def train(self, steps: int) -> float:
        """Seconds of `steps` steps of the Trainer, its start-up and first step left out."""
        clock = StepClock()
        split, size = self.task.train, self.plan.batch_size
        if self.padded:
            rows = np.random.default_rng(0).permutation(len(split))[: (steps + 1) * size]
            trainer = self._trainer(PaddedRows(split, rows, self.plan.padding), steps + 1)
        else:
            # In order: which of an epoch's grouped batches are timed is chosen here.
            arguments = GROUPED | {"train_sampling_strategy": "sequential"}
            trainer = self._trainer(Rows(split, self._grouped(steps)), steps + 1, arguments, data_collator=pad)
        trainer.add_callback(clock)
        trainer.train()
        return clock.times[-1] - clock.times[0]

    def evaluate(self, rows: int) -> float:
        """Seconds until `rows` rows are predicted."""
        split = self.task.validation
        if not self.padded:
            return self._write(Rows(split, mean_block(split.lengths, rows)))
        dataset = PaddedRows(split, np.arange(rows) % len(split), self.plan.padding)
        trainer = self._trainer(dataset, 1)
        synchronize()
        started = time.perf_counter()
        trainer.predict(dataset)
        synchronize()
        return time.perf_counter() - started

    def _grouped(self, steps: int) -> np.ndarray:
        """The rows of a first batch and `steps` more whose mean padded length is that of an epoch of the Trainer's."""
        split, size = self.task.train, self.plan.batch_size
        order = get_length_grouped_indices(split.lengths.tolist(), size, generator=torch.Generator().manual_seed(0))
        batches = np.array(order[: len(order) // size * size]).reshape(-1, size)[:CANDIDATES]
        chosen = representative(split.lengths[batches].max(1), steps)
        return batches[[chosen[0], *chosen]].reshape(-1)

    def _write(self, dataset: Rows) -> float:
        """Seconds until labels are written for rows that are sorted by length, in as few steps as tell them apart."""
        model = self.model.eval()
        options = {"max_new_tokens": max(map(len, self.task.label_ids)) - 1, "do_sample": False, "num_beams": 1}
        synchronize()
        started = time.perf_counter()
        with torch.inference_mode():
            for start in range(0, len(dataset), EVALUATION_BATCH):
                batch = pad(dataset.rows[start : start + EVALUATION_BATCH])
                inputs = {name: batch[name].to(device()) for name in ("input_ids", "attention_mask")}
                model.generate(**inputs, **options)
        synchronize()
        return time.perf_counter() - started

    def _trainer(self, dataset: Dataset, steps: int, arguments: dict | None = None, **parts) -> Seq2SeqTrainer:
        return make_trainer(self.model, dataset, self.folder, steps, self.plan.batch_size, arguments, **parts)


def make_model(method: str, model: T5ForConditionalGeneration, plan: Plan) -> torch.nn.Module:
    """`peft_pt` or `recipe_dept` around a backbone of its own; what is trained is float32 whatever the backbone is."""
    if method == "peft_pt":
        made = peft_prompt_tuning(model, plan.length)
        made.prompt_encoder.float()
        return made
    return DeptRecipe(model, plan.short_length, plan.recipe_rank, plan.padding)

"""Train a prompt on rows of your own, from Python."""

import itertools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ept.api.prompt import Prompt
from ept.api.prompted import Prompted
from ept.api.rows import Kind, own_task, tokenized_rows
from ept.config.settings import BaselineSettings, EptSettings, MethodSettings, PromptSettings, TrainingSettings
from ept.data.dataset import TokenizedSplit
from ept.data.tokenizer import Pieces, load_pieces
from ept.errors import InputError
from ept.evaluation.score import Answers, scores_of
from ept.files import digest
from ept.methods.base import MethodModule
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.initialize import COMMON_PIECES
from ept.methods.prompt_file import SavedPrompt
from ept.methods.registry import get_method
from ept.tasks.record import Task
from ept.training.checkpoint import Checkpoint
from ept.training.loop import Validate, label_loss, train_runs
from ept.training.progress import Progress
from ept.training.runs import DIVERGED, Run, RunResult
from ept.training.step import ForwardSize

# A prompt of a few hundred steps is a start that fits most tables of rows; `settings` changes it.
STEPS, WARMUP, EVALUATE_EVERY = 600, 60, 100
# The reference prompt is 100 tokens at hidden size 768 (Lester et al. 2021); smaller backbones get shorter ones.
TOKENS = {768: (100, 60), 0: (20, 10)}


def train(
    rows: Iterable[Mapping[str, Any]],
    *,
    template: str,
    label: str,
    labels: Sequence[str] | None = None,
    kind: Kind = "classification",
    method: str = "ept",
    model: Prompted,
    validation: Iterable[Mapping[str, Any]] | None = None,
    init_from: Prompt | Sequence[Prompt] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    source_length: int = 256,
    output: str | Path | None = None,
) -> Prompt:
    """Train a prompt on labeled rows over a frozen backbone and return it with its validation score.

    Every combination of learning rates is trained (packed methods: all in one pass); the best checkpoint by validation
    is returned. The metadata hold `scores`, `validation_curve`, `learning_rates` and the data's fingerprint.

    Args:
        rows: Labeled rows as dictionaries, for example from `csv.DictReader` or a `datasets.Dataset`.
        template: Source text as a format string over the rows' columns, for example `"text: {text}"`.
        label: The column with the label: one of `labels`, a number for regression, or the text to write.
        labels: The labels in the order of the classes; by default the distinct ones of the rows, sorted.
        kind: `classification`, `regression` or `extraction` (free text).
        method: Name of a method, for example `ept`, `pt`, `dept` or `lora`.
        model: The frozen backbone.
        validation: Rows that select the checkpoint; by default min(1000, a quarter) of the rows are set aside.
        init_from: A prompt of the same method to start from. SPoT and MPT always start from one, which may also be a
            PT prompt of another task; ATTEMPT mixes a list of PT prompts of other tasks.
        settings: Sections `training`, `prompt`, `ept`, `baselines` and those of methods, as in a configuration or in a
            run's settings.json; what is left out has defaults for a few hundred steps.
        seed: Seed of the prompt's start and of the order of the rows.
        source_length: Longest source text in tokens.
        output: Folder for the prompt and its checkpoint. A training that was killed continues from there and ends bit
            for bit the same; without it nothing is kept on disk.

    Returns:
        The trained prompt; also written to `output` if given.

    Raises:
        InputError: A row lacks a column or has an unknown label, settings do not fit, or every run diverged.

    Example:
        >>> import ept
        >>> model = ept.Prompted.from_pretrained("demo-t5")
        >>> words = {"lovely": "good", "superb": "good", "awful": "bad", "broken": "bad"}
        >>> rows = [{"text": f"the meal was {word}", "verdict": verdict} for word, verdict in words.items()] * 5
        >>> short = {"training": {"steps": 60, "warmup_steps": 6, "evaluate_every": 20}}
        >>> prompt = ept.train(rows, template="text: {text}", label="verdict", model=model, settings=short)
        >>> model.predict(["the meal was superb", {"text": "the meal was awful"}], prompt)
        ['good', 'bad']
        >>> model.predict_proba(["the meal was superb"], prompt).shape, prompt.labels
        ((1, 2), ['bad', 'good'])
        >>> ept.evaluate(rows, label="verdict", prompt=prompt, model=model)["accuracy"].value
        100.0
    """
    rows = list(rows)
    record = get_method(method)
    if record.encoder_decoder and not model.backbone.family.encoder_decoder:
        raise InputError(f"{method} needs an encoder, which {model.name} does not have; use another method")
    task = own_task(rows, template, label, labels, kind, source_length)
    options = _Options.of(settings or {}, model.backbone.hidden_size, method)
    starts = [] if init_from is None else [init_from] if isinstance(init_from, Prompt) else list(init_from)
    _check_starts(method, starts, model, options.prompt.length)
    pieces = load_pieces(model.folder, task.cue)
    with ExitStack() as stack:
        folder = Path(output) if output else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ept-")))
        splits = tokenized_rows(task, rows, None if validation is None else list(validation), label, pieces, folder)
        combinations = list(itertools.product(*(options.rates[group] for group in record.groups)))
        runs = [Run(seed, dict(zip(record.groups, rates, strict=True))) for rates in combinations]
        job = _Work(model, task, pieces, options, method, splits, starts, source_length)
        results, tensors = job.train(runs, folder / "checkpoint" if output else None)
        best = max(range(len(runs)), key=lambda run: _score(results[run]))
        if results[best].status == DIVERGED or not results[best].best_tensors:
            raise InputError(f"{method}: every run diverged; lower the learning rates in settings['training']")
        trained, collapsed = tensors(results[best])
        metadata = {
            **_metadata(model, task, method, seed, source_length, options),
            "learning_rates": runs[best].learning_rates,
            "scores": {f"validation {task.metrics[0]}": results[best].best_score},
            "best_step": results[best].best_step,
            "validation_curve": [list(point) for point in results[best].validation_curve],
            "data_fingerprints": {name: split.fingerprint for name, split in splits.items()},
        }
        prompt = Prompt._of_saved(SavedPrompt(trained, collapsed, metadata), str(output or "the trained prompt"))
        if output:
            prompt.save_pretrained(folder)
        return prompt


@dataclass(frozen=True)
class _Options:
    """The settings of a training, defaults filled in."""

    training: TrainingSettings
    prompt: PromptSettings
    ept: EptSettings
    baselines: BaselineSettings
    methods: MethodSettings
    rates: dict[str, list[float]]

    @classmethod
    def of(cls, settings: Mapping[str, Mapping[str, Any]], hidden_size: int, method: str) -> "_Options":
        own = {section.name: section.default for section in fields(MethodSettings)}
        known = ["training", "prompt", "ept", "baselines", *own]
        if unknown := set(settings) - set(known) - _OF_RECORDS:
            raise InputError(f"settings has the unknown section {min(unknown)!r}; use {', '.join(known)}")
        length, short = TOKENS[768 if hidden_size >= 768 else 0]
        training: dict[str, Any] = {
            "steps": STEPS,
            "warmup_steps": WARMUP,
            "evaluate_every": EVALUATE_EVERY,
            "runs_per_pass": 3,
        }
        training |= settings.get("training", {})
        rates: dict[str, Any] = dict(training.pop("learning_rates", {}))
        training.pop("k", None)
        if method in rates:
            rates = rates[method]
        record = get_method(method)
        rates = {**(record.few_shot_rates or record.rates), **rates}
        if set(rates) != set(record.groups):
            raise InputError(
                f"settings: {method} has the learning rates {', '.join(record.groups)}, found {sorted(rates)}"
            )
        return cls(
            _section("training", TrainingSettings, training),
            _section("prompt", PromptSettings, {"length": length, "short_length": short, **settings.get("prompt", {})}),
            _section("ept", EptSettings, settings.get("ept", {})),
            _section("baselines", BaselineSettings, settings.get("baselines", {})),
            MethodSettings(
                **{name: _section(name, type(default), settings.get(name, {})) for name, default in own.items()}
            ),
            rates,
        )


# Sections of a run's settings.json that say where it came from and need nothing here.
_OF_RECORDS = {
    "version",
    "backbone",
    "data",
    "task",
    "method",
    "regime",
    "seeds",
    "initialize_from",
    "source_length",
    "source_choice",
    "code",
}


def _section(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    from pydantic import TypeAdapter, ValidationError

    if unknown := set(values) - {field.name for field in fields(kind)}:
        raise InputError(f"settings: {name} has no key {min(unknown)!r}; config/README.md lists the keys")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, (name, *problem["loc"])))
        raise InputError(f"settings: {key} is {problem['input']!r}: {problem['msg']}") from error


@dataclass(frozen=True)
class _Work:
    """What one training needs."""

    model: Prompted
    task: Task
    pieces: Pieces
    options: _Options
    method: str
    splits: dict[str, TokenizedSplit]
    starts: list[Prompt]
    source_length: int

    def train(self, runs: list[Run], checkpoints: Path | None) -> tuple[list[RunResult], Any]:
        """Train all runs: together where the method allows it, else one after the other."""
        groups = [runs] if get_method(self.method).packed else [[run] for run in runs]
        results: list[RunResult] = []
        for number, group in enumerate(groups):
            module = self._module([run.seed for run in group])
            if self.starts and not self._mixes:
                for run in range(len(group)):
                    self._start(module, run, self.starts[0])
            checkpoint = None
            if checkpoints is not None:
                checkpoint = Checkpoint(
                    checkpoints / f"part{number}.safetensors", identity=self._identity(group), conditions={}
                )
            results += self._train(module, group, checkpoint)
            module.close()
        return results, self._tensors

    @property
    def _mixes(self) -> bool:
        return get_method(self.method).start_from == "mixture"

    def _start(self, module: MethodModule, run: int, start: Prompt) -> None:
        """Set a run to a trained prompt.

        What a source prompt of another method lacks keeps its start: u and v of MPT are ones, so that it begins as it.
        """
        tensors = start.saved.tensors
        if start.method != self.method and _is_source(self.method, start):
            tensors = {**module.tensors(run), **tensors}
        module.load_tensors(run, tensors, start.origin)

    def _train(self, module: MethodModule, runs: list[Run], checkpoint: Checkpoint | None) -> list[RunResult]:
        settings, train = self.options.training, self.splits["train"]
        steps = settings.steps if isinstance(settings.steps, int) else STEPS
        longest = self.options.prompt.length + self.source_length
        together = settings.runs_per_pass if isinstance(settings.runs_per_pass, int) else len(runs)
        size = ForwardSize(together * settings.batch_size * longest, together)
        rows = np.tile(np.arange(len(train)), (len(runs), 1))
        dropout = 0.0 if get_method(self.method).packed else settings.dropout
        results, _ = train_runs(
            module,
            runs,
            label_loss(self.model.backbone, module, runs, train, rows, settings.batch_size, dropout),
            steps,
            settings,
            size,
            self._validation(module, size),
            Progress(f"{self.method} on {len(train)} rows", steps),
            checkpoint,
        )
        return results

    def _validation(self, module: MethodModule, size: ForwardSize) -> Validate:
        split = self.splits["validation"]
        rows = np.sort(np.random.default_rng(0).permutation(len(split))[: self.options.training.validation_rows])
        answers = Answers(self.task, self.pieces)
        return scores_of(module, self.model.backbone, split, rows, answers, size.positions)

    def _module(self, seeds: list[int]) -> MethodModule:
        options = self.options
        if not get_method(self.method).packed:
            return build_weight_module(self.method, self.model.backbone, options.baselines, seeds[0])
        texts = {"text": [options.prompt.init_text], "labels": self.task.labels}.get(options.prompt.init, [])
        return build_prompt_module(
            self.method,
            self.model.backbone.embedding,
            options.prompt,
            options.ept,
            source_length=self.source_length,
            seeds=seeds,
            init_ids=[self.pieces.words(text) for text in texts],
            sources=torch.stack([one.saved.tensors["prompt"] for one in self.starts]) if self._mixes else None,
            methods=options.methods,
            text_length=int(self.splits["train"].lengths.max()),
            vocabulary=self.pieces.common(COMMON_PIECES),
        )

    def _tensors(self, result: RunResult) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The trained tensors of a run and what use needs of them."""
        module = self._module([0])
        try:
            module.load_tensors(0, result.best_tensors)
            return {name: tensor.clone() for name, tensor in module.tensors(0).items()}, module.collapse(0)
        finally:
            module.close()

    def _identity(self, runs: list[Run]) -> dict[str, Any]:
        found = [self.method, asdict(self.options), [vars(run) for run in runs], self.model._identity]
        return {
            "hash": digest([*found, *(start.saved.metadata for start in self.starts)]),
            "data": [self.splits["train"].fingerprint, self.splits["validation"].fingerprint],
        }


def _is_source(method: str, start: Prompt) -> bool:
    """Whether `start` is what trains the source prompts of `method`: PT for SPoT, MPT and ATTEMPT."""
    return get_method(start.method).module == get_method(get_method(method).source_method).module


def _check_starts(method: str, starts: list[Prompt], model: Prompted, length: int) -> None:
    """Refuse a missing start, one of another backbone, and prompts that cannot be mixed."""
    record = get_method(method)
    source = get_method(record.source_method)
    if record.start == "always" and not starts:
        many = "a list of" if record.start_from == "mixture" else "one of the"
        raise InputError(
            f"{method} always starts from prompts that were trained on other tasks; pass {many} {source.title} prompts "
            f"as init_from (train them with method={source.name!r})"
        )
    for start in starts:
        model._check(start)
        found = start.saved.tensors.get("prompt")
        shape = [length, model.backbone.hidden_size]
        fits = found is not None and list(found.shape) == shape and _is_source(method, start)
        if record.start_from == "mixture" and not fits:
            raise InputError(
                f"{method} mixes {source.title} prompts of {length} tokens, but {start.origin} is {start!r}; use "
                "prompts of that method and length, or set settings['prompt']['length']"
            )
    if len(starts) > 1 and record.start_from != "mixture":
        raise InputError(f"{method} starts from one prompt, init_from has {len(starts)}; pass one")


def _score(result: RunResult) -> float:
    return float("-inf") if result.status == DIVERGED else result.best_score


def _metadata(
    model: Prompted, task: Task, method: str, seed: int, source_length: int, options: _Options
) -> dict[str, Any]:
    """What the prompt says of its origin and needs for use."""
    found = {
        "backbone": model.name,
        "backbone_identity": model._identity,
        "method": method,
        "task": task.name,
        "seed": seed,
        "template": task.template,
        "labels": list(task.labels),
        "kind": task.kind,
        "cue": task.cue,
        "metrics": list(task.metrics),
        "source_length": source_length,
        "settings": {"baselines": vars(options.baselines)} if not get_method(method).packed else {},
    }
    return found if model.backbone.family.encoder_decoder else found | {"task_type": "CAUSAL_LM"}

"""Which source prompt fits a target: by its loss on the target's examples, or by its similarity to a prompt of its own.

One choice for all runs of a pack, on the examples of all seeds together (docs/training-protocol.md).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ept.errors import InputError
from ept.methods.base import MethodModule
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.prompt import PromptModule
from ept.methods.prompt_file import SavedPrompt, read_prompt
from ept.methods.registry import get_method
from ept.plan.pack import Pack, joined_title
from ept.training.job import Job, runs_of
from ept.training.loop import train_pack
from ept.training.progress import Progress
from ept.training.runs import Run
from ept.training.step import pack_losses

# Training examples on which source prompts are compared where the target has all of its data (our reading).
ROWS_TO_CHOOSE_SOURCE = 128


@dataclass(frozen=True)
class SourceScores:
    """The score of each source that was compared, by its title, the chosen one first; empty for a start from scratch.

    `by` is loss (the lowest is chosen) or similarity (the largest). NaN where there is none: a mixture before it is
    trained, a prompt that diverged.
    """

    by: Literal["loss", "similarity"] = "loss"
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def chosen(self) -> str | None:
        """The title of the chosen source; None for a start from scratch."""
        return next(iter(self.scores), None)

    def record(self) -> dict[str, Any]:
        """What runs.json says of the choice."""
        name = {"loss": "source_losses", "similarity": "source_similarities"}[self.by]
        scores = {title: score if np.isfinite(score) else None for title, score in self.scores.items()}
        return {"source": self.chosen or "scratch", name: scores}


def score_sources(job: Job, sources: PromptModule, probe: PromptModule) -> SourceScores:
    """The scores of the job's candidates, whose prompts are the runs of `sources`, best first.

    `probe` is an untrained pack of one run of the same method; only a choice by similarity trains it.
    """
    by = job.config.few_shot.choose_by
    if by == "loss":
        scores = source_losses(job, sources)
    else:
        _train_probe(job, probe)
        with torch.inference_mode():
            scores = prompt_similarity(probe().prompt[0], sources().prompt).tolist()
    sign = 1 if by == "loss" else -1
    ranked = np.argsort(np.nan_to_num(sign * np.array(scores), nan=np.inf), kind="stable")
    return SourceScores(by, {job.pack.candidates[place].title: scores[place] for place in ranked})


def source_losses(job: Job, sources: PromptModule) -> list[float]:
    """The loss of every source prompt on the target's examples, without training."""
    rows = _examples(job)
    with torch.inference_mode():
        batch = job.train.collate(np.tile(rows, sources.runs)).to(job.backbone.device)
        return pack_losses(job.backbone, sources(), batch).tolist()


def prompt_similarity(prompt: Tensor, others: Tensor) -> Tensor:
    """The mean cosine over every pair of tokens of `prompt` [length, hidden] and of each of `others` [sources, length,
    hidden]: [sources].

    [known, SPoT, Vu et al., ACL 2022, section 3.2: average per-token cosine similarity] [ours] Of DePT and EPT the
    prompt that is prepended is compared; their low-rank parts change the text.
    """
    return normalize(others, dim=-1).mean(1) @ normalize(prompt, dim=-1).mean(0)


def _examples(job: Job) -> np.ndarray:
    rows = np.unique(np.concatenate([job.train_rows(seed) for seed in job.pack.seeds]))
    return rows if job.pack.k is not None else np.random.default_rng(0).permutation(rows)[:ROWS_TO_CHOOSE_SOURCE]


def _train_probe(job: Job, probe: PromptModule) -> None:
    """Train a prompt briefly on the target, with the first of the grid's learning rates.

    Its seed should be that of the source prompts: with the start of another seed similarities would tell of the starts.
    """
    steps = job.config.few_shot.probe_steps
    settings = replace(job.settings, steps=steps, warmup_steps=steps // 10, evaluate_every=steps, patience=0, halving=0)
    train_pack(
        job.backbone,
        probe,
        [Run(probe.seeds[0], runs_of(job.pack)[0].learning_rates)],
        job.train,
        _examples(job)[None],
        steps,
        settings,
        job.size,
        # Nothing is validated: the prompt is taken as it stands after the last step.
        lambda _, alive: np.full(len(alive), -np.inf),
        Progress(f"{job.pack.method} {job.pack.task} {job.pack.regime}: prompt to compare sources with", steps),
    )


def starting_prompts(job: Job, seeds: list[int]) -> tuple[MethodModule, SourceScores]:
    """The prompts of runs with these seeds, and the score of each source that was compared.

    Tasks that are used together are one source, mnli+sst2; a mixture has no score before it is trained (NaN). Raises
    InputError for a source prompt of another backbone or other settings.
    """
    prompts = build_runs(job, seeds)
    if job.method.start_from == "mixture":
        return prompts, SourceScores(scores={joined_title(job.pack.candidates): float("nan")})
    if not job.pack.candidates:
        return prompts, SourceScores()
    sources = candidate_prompts(job)
    first = job.pack.candidates[0]
    scores = score_sources(job, sources, build_prompts(job, [first.seeds[0]], first.method))
    (chosen,) = [candidate for candidate in job.pack.candidates if candidate.title == scores.chosen]
    tensors = read_source(chosen).tensors
    for run in range(len(seeds)):
        prompts.load_tensors(run, tensors, str(chosen.source_prompt))
    return prompts, scores


def build_runs(job: Job, seeds: list[int]) -> MethodModule:
    """A pack of untrained runs, one per seed: prompts, or the one run of a method that trains inside the backbone,
    attached to it.
    """
    if job.method.packed:
        return build_prompts(job, seeds)
    (seed,) = seeds
    return build_weight_module(job.pack.method, job.backbone, job.config.baselines, seed)


def build_prompts(job: Job, seeds: list[int], method: str | None = None) -> PromptModule:
    """A pack of untrained prompts, one run per seed, of the job's method or another."""
    method = method or job.pack.method
    mixes = get_method(method).start_from == "mixture"
    prompt = job.pack.variant.prompt
    texts = {"text": [prompt.init_text], "labels": job.task.labels}.get(prompt.init, [])
    return build_prompt_module(
        method,
        job.backbone.embedding,
        prompt,
        job.pack.variant.ept,
        source_length=job.config.source_length(job.task.name),
        seeds=seeds,
        init_ids=[job.answers.pieces.words(text) for text in texts],
        sources=candidate_prompts(job).prompt if mixes else None,
    )


def candidate_prompts(job: Job) -> PromptModule:
    """The trained prompts of all candidates, one run each. The candidates are packs of one method."""
    candidates = job.pack.candidates
    prompts = build_prompts(job, [job.pack.seeds[0]] * len(candidates), candidates[0].method)
    for run, candidate in enumerate(candidates):
        prompts.load_tensors(run, read_source(candidate).tensors, str(candidate.source_prompt))
    return prompts


def read_source(candidate: Pack) -> SavedPrompt:
    """The source prompt of a pack. Raises InputError for one of another backbone or of other settings."""
    saved = read_prompt(candidate.source_prompt)
    backbone = candidate.settings["backbone"]
    saved.check_backbone(backbone["name"], backbone["identity"], str(candidate.source_prompt))
    if saved.metadata.get("hash") != candidate.hash:
        raise InputError(
            f"the prompt file {candidate.source_prompt} is of the settings {saved.metadata.get('hash')}, not of "
            f"{candidate.hash}; delete it and train it here"
        )
    return saved

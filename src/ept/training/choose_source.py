"""Which source prompt fits a target: by its loss on the target's examples, or by its similarity to a prompt of its own.

The choice is made for each seed on that seed's training examples (docs/training-protocol.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from ept.methods.base import MethodModule
from ept.methods.build import build_prompt_module, build_weight_module
from ept.methods.initialize import COMMON_PIECES
from ept.methods.mpt import SharedPrompt
from ept.methods.prompt import PromptModule
from ept.methods.pt import PlainPrompt
from ept.methods.registry import get_method
from ept.training.job import Job, runs_of
from ept.training.loop import label_loss, train_runs
from ept.training.progress import Progress
from ept.training.runs import Run
from ept.training.step import cut, loss_sums

# Training examples on which source prompts are compared where the target has all of its data (our reading).
ROWS_TO_CHOOSE_SOURCE = 128


@dataclass(frozen=True)
class SourceChoice:
    """Which source prompt the runs of each seed start from.

    `scores` holds for each seed the score of every source that was compared, by its title, the chosen one first; it is
    empty for a start from scratch. `by` is loss (the lowest is chosen) or similarity (the largest). A mixture has no
    score before it is trained (NaN). `diverged` are the sources that were left out because their training diverged.
    """

    by: Literal["loss", "similarity"] = "loss"
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    diverged: tuple[str, ...] = ()

    def chosen(self, seed: int) -> str:
        """The title of the source that the runs of a seed start from."""
        return next(iter(self.scores[seed]))

    @property
    def mean_scores(self) -> dict[str, float]:
        """The mean score of each source over seeds, best first."""
        seeds = list(self.scores.values())
        if not seeds:
            return {}
        means = {title: float(np.mean([scores[title] for scores in seeds])) for title in seeds[0]}
        return _best_first(means, self.by)

    def record(self) -> dict[str, Any]:
        """What runs.json says of the choice.

        `source` names the chosen source, or all that some seed chose, joined by "/"; the scores beside it are means
        over seeds.
        """
        name = {"loss": "source_losses", "similarity": "source_similarities"}[self.by]
        taken = {self.chosen(seed) for seed in self.scores}
        return {
            "source": "/".join(title for title in self.mean_scores if title in taken) or "scratch",
            name: _numbers(self.mean_scores),
            "source_by_seed": {
                str(seed): {"source": self.chosen(seed), "scores": _numbers(scores)}
                for seed, scores in self.scores.items()
            },
            "diverged_sources": list(self.diverged),
        }


def starting_prompts(job: Job, seeds: Sequence[int]) -> tuple[MethodModule, SourceChoice]:
    """The prompts of runs with these seeds at their start, and how their sources were chosen.

    Raises InputError for a source prompt of another backbone or other settings, and where every source diverged.
    """
    prompts = build_runs(job, seeds)
    sources = job.sources
    if job.parts or job.method.start_from == "mixture":
        # All sources are used together, as teachers or in the mixture.
        title = "+".join(source.title for source in sources.usable)
        return prompts, SourceChoice(scores={seed: {title: float("nan")} for seed in seeds}, diverged=sources.diverged)
    if not sources.usable:
        return prompts, SourceChoice()
    choice = choose_sources(job, seeds)
    by_title = {source.title: source for source in sources.usable}
    for run, seed in enumerate(seeds):
        source = by_title[choice.chosen(seed)]
        prompts.load_tensors(run, source.saved.tensors, str(source.pack.source_prompt))
    return prompts, choice


def choose_sources(job: Job, seeds: Sequence[int]) -> SourceChoice:
    """Score the job's sources for each seed, on the training examples of that seed."""
    seeds = list(dict.fromkeys(seeds))
    by = job.config.few_shot.choose_by
    # With all data every seed has the same examples.
    scored = seeds if job.pack.k is not None else seeds[:1]
    rows = np.stack([_examples(job, seed) for seed in scored])
    sources = source_prompts(job)
    if by == "loss":
        scores = [source_losses(job, sources, examples) for examples in rows]
    else:
        probes = train_probes(job, rows)
        with torch.inference_mode():
            scores = [prompt_similarity(probe, sources().prompt).tolist() for probe in probes().prompt]
    titles = [source.title for source in job.sources.usable]
    ranked = [_best_first(dict(zip(titles, each, strict=True)), by) for each in scores]
    if len(scored) < len(seeds):
        ranked *= len(seeds)
    return SourceChoice(by, dict(zip(seeds, ranked, strict=True)), job.sources.diverged)


def source_losses(job: Job, sources: MethodModule, rows: np.ndarray) -> list[float]:
    """The loss of every source prompt on the target's examples `rows` [rows], without training."""
    with torch.inference_mode():
        output = sources()
        sums = torch.zeros(sources.runs, device=job.backbone.device)
        for piece in cut(job.train, np.tile(rows, (sources.runs, 1)), output.prompt.shape[1], job.size):
            part = output.slice(piece.first, piece.last)
            sums[piece.first : piece.last] += loss_sums(job.backbone, part, piece.batch.to(job.backbone.device))
        return (sums / int(job.train.target_lengths[rows].sum())).tolist()


def train_probes(job: Job, rows: np.ndarray) -> MethodModule:
    """Train a prompt briefly on each of some sets of training examples, `rows` [sets, rows].

    They have the first of the grid's learning rates and all start as the source prompts did: with other starts the
    similarity would mostly reflect the initialization.
    """
    source = job.sources.usable[0].pack
    probes = job.with_images(build_prompts(job, [source.seeds[0]] * len(rows), source.method))
    runs = [Run(seed, runs_of(job.pack)[0].learning_rates) for seed in probes.seeds]
    steps = job.config.few_shot.probe_steps
    settings = replace(
        job.settings,
        steps=steps,
        warmup_steps=steps // 10,
        evaluate_every=steps,
        patience=0,
        halving=0,
        include_start=False,
    )
    train_runs(
        probes,
        runs,
        label_loss(job.backbone, probes, runs, job.train, rows, settings.batch_size),
        steps,
        settings,
        job.size,
        # Nothing is validated: the prompt is taken as it stands after the last step.
        lambda alive: np.full(len(alive), -np.inf),
        Progress(f"{job.pack.method} {job.pack.task} {job.pack.regime}: prompt to compare sources with", steps),
    )
    return probes


def prompt_similarity(prompt: Tensor, others: Tensor) -> Tensor:
    """The similarity of `prompt` [length, hidden] to each of `others` [sources, length, hidden]: [sources].

    It is the mean cosine over every pair of tokens. [known, SPoT, Vu et al., ACL 2022, section 3.2: average per-token
    cosine similarity] [ours] Of DePT and EPT the prompt that is prepended is compared; their low-rank parts change the
    text.
    """
    return normalize(others, dim=-1).mean(1) @ normalize(prompt, dim=-1).mean(0)


def _examples(job: Job, seed: int) -> np.ndarray:
    """The training examples of a seed on which sources are compared, [rows]."""
    rows = job.train_rows(seed)
    return rows if job.pack.k is not None else np.random.default_rng(0).permutation(rows)[:ROWS_TO_CHOOSE_SOURCE]


def _best_first(scores: dict[str, float], by: str) -> dict[str, float]:
    """The same scores, the best first and NaN last."""
    sign = 1 if by == "loss" else -1
    titles = list(scores)
    ranked = np.argsort(np.nan_to_num(sign * np.array([scores[title] for title in titles]), nan=np.inf), kind="stable")
    return {titles[place]: scores[titles[place]] for place in ranked}


def _numbers(scores: dict[str, float]) -> dict[str, float | None]:
    """The scores as JSON can hold them."""
    return {title: score if np.isfinite(score) else None for title, score in scores.items()}


def build_runs(job: Job, seeds: Sequence[int]) -> MethodModule:
    """A pack of untrained runs, one per seed.

    Of a method that trains inside the backbone it is the only run, and it is attached to the backbone.
    """
    if job.parts:
        start = build_prompts(job, seeds, job.method.source_method)
        return SharedPrompt(cast(PlainPrompt, start), len(job.parts))
    if job.method.packed:
        return job.with_images(build_prompts(job, seeds))
    (seed,) = seeds
    return job.with_images(build_weight_module(job.pack.method, job.backbone, job.config.baselines, seed))


def build_prompts(job: Job, seeds: Sequence[int], method: str | None = None) -> PromptModule:
    """A pack of untrained prompts, one run per seed, of the job's method or another; it reads no images yet."""
    method = method or job.pack.method
    mixes = get_method(method).start_from == "mixture"
    prompt = job.pack.variant.prompt
    texts = {"text": [prompt.init_text], "labels": job.task.labels}.get(prompt.init, [])
    return build_prompt_module(
        method,
        job.backbone.embedding,
        prompt,
        job.pack.variant.ept,
        source_length=job.offset_rows(job.config.source_length(job.task.name)),
        seeds=seeds,
        init_ids=[job.answers.pieces.words(text) for text in texts],
        sources=source_prompts(job)().prompt.detach() if mixes else None,
        methods=job.config.method_settings,
        text_length=job.offset_rows(int(job.train.lengths.max())),
        vocabulary=job.answers.pieces.common(COMMON_PIECES),
    )


def source_prompts(job: Job) -> MethodModule:
    """The trained source prompts of a job, one run each. Its sources are packs of one method."""
    sources = job.sources.usable
    seeds = [job.pack.seeds[0]] * len(sources)
    prompts = job.with_images(build_prompts(job, seeds, sources[0].pack.method))
    for run, source in enumerate(sources):
        prompts.load_tensors(run, source.saved.tensors, str(source.pack.source_prompt))
    return prompts

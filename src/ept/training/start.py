"""Where a pack's prompts start: their initialisation, or the source prompt that fits the target best."""

import numpy as np
import torch

from ept.baselines.build import build_weights
from ept.method_pack import MethodPack
from ept.methods import get_method
from ept.pack import Pack, joined_title
from ept.prompts.base import PromptPack
from ept.prompts.build import build_pack
from ept.prompts.save import read_prompt
from ept.training.forward import pack_losses
from ept.training.load import Job

# Training examples on which source prompts are compared where the target has all of its data (our reading).
ROWS_TO_CHOOSE_SOURCE = 128


def starting_prompts(job: Job, seeds: list[int]) -> tuple[MethodPack, dict[str, float]]:
    """The prompts of runs with these seeds, and the loss of each source that was compared.

    The first source in the dictionary is the chosen one; it is empty for a start from scratch. Tasks that are used
    together are one source, mnli+sst2; a mixture has no loss before it is trained (NaN).
    """
    prompts = build_runs(job, seeds)
    if job.method.sources == "mixture":
        return prompts, {joined_title(job.pack.candidates): float("nan")}
    if not job.pack.candidates:
        return prompts, {}
    losses = source_losses(job)
    # A source prompt that diverged has no loss.
    ranked = sorted(job.pack.candidates, key=lambda candidate: np.nan_to_num(losses[candidate.title], nan=np.inf))
    chosen = ranked[0].source_prompt
    tensors = read_prompt(chosen).tensors
    for run in range(len(seeds)):
        prompts.load_tensors(run, tensors, str(chosen))
    return prompts, {candidate.title: losses[candidate.title] for candidate in ranked}


def build_runs(job: Job, seeds: list[int]) -> MethodPack:
    """A pack of untrained runs, one per seed: prompts, or the one run of a method that trains inside the backbone,
    attached to it.
    """
    if job.method.packed:
        return build_prompts(job, seeds)
    (seed,) = seeds
    return build_weights(job.pack.method, job.backbone, job.config.baselines, seed)


def build_prompts(job: Job, seeds: list[int], method: str | None = None) -> PromptPack:
    """A pack of untrained prompts, one run per seed, of the job's method or another."""
    method = method or job.pack.method
    mixes = get_method(method).sources == "mixture"
    prompt = job.pack.variant.prompt
    texts = {"text": [prompt.init_text], "labels": job.task.labels}.get(prompt.init, [])
    return build_pack(
        method,
        job.backbone.embedding,
        prompt,
        job.pack.variant.ept,
        source_length=job.config.source_length(job.task.name),
        seeds=seeds,
        init_ids=[job.answers.pieces.words(text) for text in texts],
        sources=candidate_prompts(job).prompt if mixes else None,
    )


def candidate_prompts(job: Job) -> PromptPack:
    """The trained prompts of all candidates, one run each. The candidates are packs of one method."""
    candidates = job.pack.candidates
    prompts = build_prompts(job, [job.pack.seeds[0]] * len(candidates), candidates[0].method)
    for run, candidate in enumerate(candidates):
        prompts.load_tensors(run, read_prompt(candidate.source_prompt).tensors, str(candidate.source_prompt))
    return prompts


def source_losses(job: Job) -> dict[str, float]:
    """The loss of every candidate source prompt on the target's training examples, by its title, without training.

    One comparison for all runs, on the examples of all seeds together (protocol: docs/protocol.md). The candidates are
    the runs of one pack.
    """
    candidates: tuple[Pack, ...] = job.pack.candidates
    rows = np.unique(np.concatenate([job.train_rows(seed) for seed in job.pack.seeds]))
    if job.pack.k is None:
        rows = np.random.default_rng(0).permutation(rows)[:ROWS_TO_CHOOSE_SOURCE]
    prompts = candidate_prompts(job)
    with torch.inference_mode():
        batch = job.train.collate(np.tile(rows, len(candidates))).to(job.backbone.device)
        losses = pack_losses(job.backbone, prompts(), batch).tolist()
    return {candidate.title: loss for candidate, loss in zip(candidates, losses, strict=True)}

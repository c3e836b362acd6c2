"""Where a pack's prompts start: their initialisation, or the source prompt that fits the target best."""

from ept.baselines.build import build_weights
from ept.errors import InputError
from ept.method_pack import MethodPack
from ept.methods import get_method
from ept.pack import Pack, joined_title
from ept.prompts.base import PromptPack
from ept.prompts.build import build_pack
from ept.prompts.save import SavedPrompt, read_prompt
from ept.training.choose_source import SourceScores, score_sources
from ept.training.load import Job


def starting_prompts(job: Job, seeds: list[int]) -> tuple[MethodPack, SourceScores]:
    """The prompts of runs with these seeds, and the score of each source that was compared.

    Tasks that are used together are one source, mnli+sst2; a mixture has no score before it is trained (NaN). Raises
    InputError for a source prompt of another backbone or other settings.
    """
    prompts = build_runs(job, seeds)
    if job.method.sources == "mixture":
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

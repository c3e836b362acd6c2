"""Prompts and backbones on the Hugging Face Hub: download, and a prompt's model card."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, errors, snapshot_download

from ept.errors import InputError
from ept.tasks.record import named_columns


@dataclass(frozen=True)
class Score:
    """A metric in percent with its 95 % interval."""

    value: float
    low: float
    high: float


# The Hub's names of tasks.
_HUB_TASKS = {
    "classification": "text-classification",
    "regression": "text-classification",
    "extraction": "text-generation",
}
_USE = """\
```python
import ept

prompt = ept.Prompt.from_pretrained({repo!r})
model = ept.Prompted.from_pretrained({backbone!r})
model.predict([{example}], prompt)
```
"""


def download(
    repo_id: str,
    patterns: Sequence[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Download the files of a Hub repository that match `patterns` and return their folder in the Hub's cache.

    Raises:
        InputError: The repository does not exist, refuses access, or cannot be reached.
    """
    with one_sentence(repo_id):
        return Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(patterns),
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                force_download=force_download,
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )


def card(metadata: Mapping[str, Any], title: str, repo_id: str = "path/or/repo") -> ModelCard:
    """A model card: front matter that the Hub reads, and what a reader needs to use and to judge the prompt.

    It holds no row of the data.

    Args:
        metadata: What the prompt file holds beside its tensors.
        title: The method's name as tables print it.
        repo_id: Where the prompt is, for the example.
    """
    task, backbone = str(metadata.get("task", "task")), str(metadata.get("backbone", "unknown"))
    scores = {name: value for name, value in dict(metadata.get("scores", {})).items() if value is not None}
    results = [
        EvalResult(
            task_type=_HUB_TASKS.get(str(metadata.get("kind")), "text-classification"),
            dataset_type=task,
            dataset_name=task,
            metric_type=name,
            metric_value=round(value["value"] if isinstance(value, Mapping) else float(value), 2),
        )
        for name, value in scores.items()
    ]
    data = ModelCardData(
        base_model=backbone if "/" in backbone else None,
        tags=["prompt-tuning", str(metadata.get("method", "pt"))],
        library_name="ept",
        model_name=f"{title} prompt for {task}",
        license=metadata.get("data_license"),
        eval_results=results or None,
    )
    columns = named_columns(str(metadata.get("template", "")))
    example = '"your text"' if len(columns) == 1 else "{" + ", ".join(f'"{name}": "…"' for name in columns) + "}"
    lines = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {title} prompt for {task}\n",
        f"A soft prompt for the frozen backbone `{backbone}`; the backbone itself is unchanged.\n",
        *([str(metadata["note"]) + "\n"] if metadata.get("note") else []),
        "| | |",
        "|---|---|",
        f"| task | {task} ({metadata.get('kind', 'classification')}) |",
        f"| template | {_code(metadata.get('template'))} |",
        f"| labels | {', '.join(_code(label) for label in metadata.get('labels') or []) or 'free text'} |",
        f"| backbone | `{backbone}` ({metadata.get('backbone_identity', 'identity not recorded')}) |",
        f"| training data | {_fingerprint(metadata)} |",
        f"| license of the data | {metadata.get('data_license') or 'not stated'} |",
        *(f"| {name} | {_score(value)} |" for name, value in scores.items()),
        "",
        "Scores are percentages; intervals are 95 % intervals over the scored rows.\n" if scores else "",
        _USE.format(repo=repo_id, backbone=backbone, example=example),
    ]
    return ModelCard("\n".join(lines))


def _code(text: Any) -> str:
    """Text as code in a cell of a Markdown table."""
    shown = " ".join(str(text).split()).replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _score(value: Any) -> str:
    if isinstance(value, Mapping):
        low, high = value.get("ci_low"), value.get("ci_high")
        interval = f" (95 % interval {low:.1f} to {high:.1f})" if low is not None and high is not None else ""
        return f"{value['value']:.1f}{interval}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _fingerprint(metadata: Mapping[str, Any]) -> str:
    found = metadata.get("data_fingerprints") or metadata.get("data_fingerprint")
    if isinstance(found, Mapping):
        found = found.get("train")
    return f"SHA-256 `{str(found)[:16]}…`" if found else "fingerprint not recorded"


@contextmanager
def one_sentence(repo_id: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence."""
    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(f"{repo_id}: the repository is gated; accept its terms and pass a token") from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"{repo_id}: the Hub has no such repository, or hides it; check the name and the token"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{repo_id}: the Hub has no such revision of it; check revision") from error
    except errors.HFValidationError as error:
        raise InputError(f"{repo_id!r} is not a valid Hub repository name; use owner/name") from error
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{repo_id}: not in the local cache and the Hub cannot be reached; check the network, HF_ENDPOINT and "
            "local_files_only"
        ) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{repo_id}: the Hub request failed ({reason}); check the network and the token") from error

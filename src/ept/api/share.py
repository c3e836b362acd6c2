"""Prompts and backbones on the Hugging Face Hub: download, upload, and a prompt's model card."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ept.errors import InputError

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
    token: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download the files of a Hub repository that match `patterns` and return their folder in the Hub's cache.

    Raises:
        InputError: The repository does not exist, refuses access, or cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with _one_sentence(repo_id):
        return Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=list(patterns),
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )


def upload(repo_id: str, folder: Path, *, private: bool | None = None, token: str | None = None) -> str:
    """Upload a folder to a Hub repository, created if missing, in one commit; return the commit's address.

    Raises:
        InputError: The Hub refuses the upload or cannot be reached.
    """
    from huggingface_hub import HfApi

    with _one_sentence(repo_id):
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a prompt")
        return str(commit.commit_url)


def card(metadata: Mapping[str, Any], title: str, repo_id: str = "path/or/repo") -> str:
    """A model card: front matter that the Hub reads, and what a reader needs to use and to judge the prompt.

    Args:
        metadata: What the prompt file holds beside its tensors.
        title: The method's name as tables print it.
        repo_id: Where the prompt is, for the example.
    """
    from huggingface_hub import EvalResult, ModelCardData

    task, backbone = str(metadata.get("task", "task")), str(metadata.get("backbone", "unknown"))
    scores = dict(metadata.get("scores", {}))
    results = [
        EvalResult(
            task_type="text-classification", dataset_type=task, dataset_name=task, metric_type=name, metric_value=value
        )
        for name, value in scores.items()
        if isinstance(value, int | float)
    ]
    data = ModelCardData(
        base_model=backbone if "/" in backbone else None,
        tags=["prompt-tuning", str(metadata.get("method", "pt"))],
        library_name="ept",
        model_name=f"{title} prompt for {task}",
        license=metadata.get("data_license"),
        eval_results=results or None,
    )
    columns = list(dict.fromkeys(_columns(str(metadata.get("template", "")))))
    example = '"your text"' if len(columns) == 1 else "{" + ", ".join(f'"{name}": "…"' for name in columns) + "}"
    lines = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {title} prompt for {task}\n",
        f"A soft prompt for the frozen backbone `{backbone}`; nothing of the backbone is changed.\n",
        "| | |",
        "|---|---|",
        f"| template | `{metadata.get('template')}` |",
        f"| labels | {', '.join(map(str, metadata.get('labels') or [])) or 'free text'} |",
        f"| backbone | `{backbone}` ({metadata.get('backbone_identity', 'identity not recorded')}) |",
        f"| training data | {_fingerprint(metadata)} |",
        *(f"| {name} | {_score(value)} |" for name, value in scores.items()),
        "",
        _USE.format(repo=repo_id, backbone=backbone, example=example),
    ]
    return "\n".join(lines)


def _columns(template: str) -> Iterator[str]:
    import string

    return (name for _, name, _, _ in string.Formatter().parse(template) if name)


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
def _one_sentence(repo_id: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence."""
    from huggingface_hub import errors

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

"""Fetch a backbone from the Hugging Face hub at a pinned revision: complete, or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ept.backbones.files import INDEX_FILE, SINGLE_FILE, read_config, weight_files
from ept.errors import InputError
from ept.files import write_folder_atomically

TOKENIZERS = ("tokenizer.json", "spiece.model")


def download_backbone(repository: str, revision: str, folder: str | Path) -> None:
    """Download config.json, tokenizer and safetensors of a hub repository at `revision` into `folder`.

    A `folder` that exists is complete and left alone, without a word to the network. The hub is HF_ENDPOINT
    where that is set; a token comes from HF_TOKEN or the hub's login. Raises InputError where the hub cannot
    be reached, knows no such repository or revision, or wants a token, and where the repository has no
    safetensors, tokenizer or T5.
    """
    folder = Path(folder)
    if folder.exists():
        return
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=os.environ.get("HF_TOKEN"))
    with _clear_errors(repository, revision), write_folder_atomically(folder) as temporary:
        names = [file.rfilename for file in api.model_info(repository, revision=revision).siblings]
        # config.json first: another kind of model is found out before gigabytes are fetched.
        for name in _wanted(names, repository):
            api.hf_hub_download(repository, name, revision=revision, local_dir=temporary)
            if name == "config.json":
                _check(read_config, temporary, repository)
        _check(weight_files, temporary, repository)
        # The hub's own notes about the download.
        shutil.rmtree(temporary / ".cache", ignore_errors=True)


def _wanted(names: list[str], repository: str) -> list[str]:
    """The files to fetch: config.json first, the tokenizer's, then the weights (unsharded if possible)."""
    tokenizer = [name for name in (*TOKENIZERS, "tokenizer_config.json") if name in names]
    if "config.json" not in names:
        raise InputError(f"{repository} has no config.json; name a repository of a transformers model")
    if not any(name in names for name in TOKENIZERS):
        raise InputError(f"{repository} has neither {' nor '.join(TOKENIZERS)}; name a repository with its tokenizer")
    if SINGLE_FILE in names:
        weights = [SINGLE_FILE]
    elif INDEX_FILE in names:
        shards = [name for name in names if name.startswith("model-") and name.endswith(".safetensors")]
        weights = [INDEX_FILE, *sorted(shards)]
    else:
        raise InputError(
            f"{repository} has neither {SINGLE_FILE} nor {INDEX_FILE} at this revision; only safetensors are "
            "read, so name a revision or repository that has them"
        )
    return ["config.json", *tokenizer, *weights]


def _check(check: Callable[[Path], object], folder: Path, repository: str) -> None:
    """Run a check of a backbone folder; its complaint then names the repository, not the temporary folder."""
    try:
        check(folder)
    except InputError as error:
        raise InputError(str(error).replace(str(folder), repository)) from error


@contextmanager
def _clear_errors(repository: str, revision: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise InputError(
            f"{repository} is gated: accept its terms on its hub page and set HF_TOKEN to a token that may read it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"the hub has no repository {repository} (or HF_TOKEN may not read it); check backbone.id"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"{repository} has no revision {revision}; check backbone.revision") from error
    except errors.HFValidationError as error:
        raise InputError(f"backbone.id {repository!r} is no name of a hub repository: {error}") from error
    except (errors.HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"cannot download {repository} at {revision} ({reason}); check the network and HF_ENDPOINT, "
            "or give a local folder (backbone.source: local)"
        ) from error

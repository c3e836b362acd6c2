"""Files of a Hugging Face hub repository at a pinned revision: as the hub declares them, or one clear sentence."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ept.errors import InputError
from ept.files import sha256_file

# Section of the configuration that names the repository -> keys to check there.
_KEYS = {"data": "", "backbone": "backbone.id, backbone.revision, "}


class HubRepository:
    """A repository at one revision.

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub. Every method raises InputError
    where the hub cannot be reached, refuses the repository, or does not have what it should.
    """

    def __init__(self, kind: Literal["dataset", "model"], name: str, revision: str):
        # Imported here: only hub sources need it, and it takes most of a second.
        from huggingface_hub import HfApi

        self.kind, self.name, self.revision = kind, name, revision
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        self._section = "data" if kind == "dataset" else "backbone"
        self._files = self._list()

    @property
    def where(self) -> str:
        """The repository's page, for messages."""
        return f"{self._api.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def names(self) -> list[str]:
        """Every file of the repository."""
        return list(self._files)

    def download(self, name: str, folder: Path) -> None:
        """Download the file `name` to <folder>/<name> and compare it with the checksum that the hub declares.

        A connection that breaks off goes on from where it was. A hub that declares no checksum (some mirrors) is
        believed.
        """
        with self._clear_errors(name):
            self._api.hf_hub_download(
                self.name, name, repo_type=self.kind, revision=self.revision, local_dir=str(folder)
            )
        self._verify(name, folder / name)

    def _list(self) -> dict:
        with self._clear_errors("its list of files"):
            # One request that is not tried again and again: without a network the sentence comes at once.
            found = self._api.repo_info(self.name, repo_type=self.kind, revision=self.revision, files_metadata=True)
        return {file.rfilename: file for file in found.siblings}

    def _verify(self, name: str, path: Path) -> None:
        """Large files are declared by their SHA-256, others as git names them; huggingface_hub compares neither."""
        file = self._files[name]
        if file.lfs is not None:
            declared, found = file.lfs.sha256, sha256_file(path)
        else:
            declared, found = file.blob_id, _git_blob_id(path)
        if declared and found != declared:
            raise InputError(
                f"{self.where}: {name} came with the checksum {found[:12]}, but the hub declares {declared[:12]}; "
                f"try again, and if it stays so, {self._instead}"
            )

    @property
    def _instead(self) -> str:
        return f"use {self._section}.source local"

    @contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        from huggingface_hub import errors

        check = f"check {_KEYS[self._section]}HF_ENDPOINT and HF_TOKEN, or {self._instead}"
        try:
            yield
        except errors.GatedRepoError as error:
            raise InputError(
                f"{self.where}: the repository is gated; accept its terms there and set HF_TOKEN to a token that may "
                "read it"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise InputError(f"{self.where}: the hub has no such repository, or hides it; {check}") from error
        except errors.RevisionNotFoundError as error:
            raise InputError(f"{self.where}: the hub has no revision {self.revision} of it; {check}") from error
        except errors.HFValidationError as error:
            raise InputError(f"{self.name!r} is no name of a hub repository; {check}") from error
        except errors.RemoteEntryNotFoundError as error:
            raise InputError(f"{self.where}: the hub lists {what}, but does not have it; {check}") from error
        except (errors.HTTPError, OSError) as error:
            # huggingface_hub wraps what happened in a general text.
            cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise InputError(
                f"{self.where}: cannot fetch {what} ({reason}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE, or "
                f"{self._instead}"
            ) from error


def _git_blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

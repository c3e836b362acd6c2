"""Files of a Hugging Face Hub repository at a pinned revision: as the Hub declares them, or one clear sentence."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ept.errors import InputError, reason_of
from ept.files import NO_SPACE, sha256_file

# Section of the configuration that names the repository -> keys to check there.
_KEYS = {"data": "", "backbone": "backbone.id, backbone.revision, "}
# User name and password in a URL, also in one without its scheme; and its query, which may hold a token.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@|(?<![^\s('\"])[^\s/:@]+:[^\s/]*@|\?[^\s/?=]+=[^\s/]*")


class HubRepository:
    """A repository at one revision.

    HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they mean to huggingface_hub. Every method raises InputError
    where the Hub cannot be reached, refuses the repository, or does not have what it should.
    """

    def __init__(self, kind: Literal["dataset", "model"], name: str, revision: str):
        # Imported here: only Hub sources need it, and it takes most of a second.
        from huggingface_hub import HfApi

        self.kind, self.name, self.revision = kind, name, revision
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        self._section = "data" if kind == "dataset" else "backbone"
        self._files = self._list()

    @property
    def where(self) -> str:
        """The repository's page, for messages; without a password in HF_ENDPOINT."""
        endpoint = without_credentials(self._api.endpoint).rstrip("/")
        return f"{endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def names(self) -> list[str]:
        """Every file of the repository."""
        return list(self._files)

    def download(self, name: str, folder: Path) -> None:
        """Download the file `name` to <folder>/<name> and compare it with the checksum that the Hub declares.

        A broken connection is resumed where it was. Where the Hub declares no checksum (some mirrors), none is
        compared. A name that leads out of the folder is refused.
        """
        if not _is_inside(name):
            raise InputError(f"{self.where}: the Hub lists the file {name!r}, which leads elsewhere; {self._instead}")
        with self._clear_errors(name):
            self._api.hf_hub_download(
                self.name, name, repo_type=self.kind, revision=self.revision, local_dir=str(folder)
            )
        self._verify(name, folder / name)

    def _list(self) -> dict[str, Any]:
        with self._clear_errors("its list of files"):
            # One request without retries: the error comes at once where there is no network.
            found = self._api.repo_info(self.name, repo_type=self.kind, revision=self.revision, files_metadata=True)
        return {file.rfilename: file for file in getattr(found, "siblings", None) or []}

    def _verify(self, name: str, path: Path) -> None:
        """Large files are declared by their SHA-256, others as git names them; huggingface_hub compares neither."""
        file = self._files[name]
        if file.lfs is not None:
            declared, found = file.lfs.sha256, sha256_file(path)
        else:
            declared, found = file.blob_id, _git_blob_id(path)
        if declared and found != declared:
            raise InputError(
                f"{self.where}: {name} arrived with the checksum {found[:12]}, but the Hub declares {declared[:12]}; "
                f"try again; if the mismatch persists, {self._instead}"
            )

    @property
    def _instead(self) -> str:
        return f"use {self._section}.source local"

    @contextmanager
    def _clear_errors(self, what: str) -> Iterator[None]:
        """Turn huggingface_hub's errors into one sentence that says what to check."""
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
            raise InputError(f"{self.where}: the Hub has no such repository, or hides it; {check}") from error
        except errors.RevisionNotFoundError as error:
            raise InputError(f"{self.where}: the Hub has no revision {self.revision} of it; {check}") from error
        except errors.HFValidationError as error:
            raise InputError(f"{self.name!r} is not a valid Hub repository name; {check}") from error
        except errors.RemoteEntryNotFoundError as error:
            raise InputError(f"{self.where}: the Hub lists {what}, but does not have it; {check}") from error
        except (errors.HfHubHTTPError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise
            # huggingface_hub wraps what happened in a general text.
            cause = error.__cause__ if isinstance(error, errors.LocalEntryNotFoundError) else error
            raise self._unreachable(what, cause or error) from error
        except Exception as error:
            # Its HTTP client's errors are neither of these: an invalid URL or proxy, a broken connection.
            if not type(error).__module__.startswith(("httpx", "httpcore", "requests")):
                raise
            raise self._unreachable(what, error) from error

    def _unreachable(self, what: str, cause: BaseException) -> InputError:
        return InputError(
            f"{self.where}: cannot fetch {what} ({without_credentials(reason_of(cause))}); check the network, "
            f"HF_ENDPOINT and HF_HUB_OFFLINE, or {self._instead}"
        )


def without_credentials(text: str) -> str:
    """`text` without user names, passwords and queries in URLs."""
    return _CREDENTIALS.sub("", text)


def _is_inside(name: str) -> bool:
    """Whether a file name of a repository stays in the folder that it is downloaded to."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & set(name)


def _git_blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

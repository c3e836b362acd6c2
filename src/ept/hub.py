"""Files of a Hugging Face Hub repository at a pinned revision: as the Hub declares them, or one clear sentence."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

from ept.errors import InputError, reason_of
from ept.files import NO_SPACE

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
        self.names = self._list()
        """Every file of the repository."""

    @property
    def where(self) -> str:
        """The repository's page, for messages; without a password in HF_ENDPOINT."""
        endpoint = without_credentials(self._api.endpoint).rstrip("/")
        return f"{endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def download(self, names: Collection[str], folder: Path) -> None:
        """Download files to <folder>/<name> and compare them with the checksums that the Hub declares.

        A broken connection is resumed where it was. A name that leads out of the folder is refused before anything is
        downloaded.
        """
        for name in names:
            if not _is_inside(name):
                raise InputError(
                    f"{self.where}: the Hub lists the file {name!r}, whose path leaves the repository; {self._instead}"
                )
        for name in names:
            with self._clear_errors(name):
                self._api.hf_hub_download(
                    self.name, name, repo_type=self.kind, revision=self.revision, local_dir=str(folder)
                )
        self._verify(folder)

    def _list(self) -> list[str]:
        with self._clear_errors("its list of files"):
            # One request without retries: the error comes at once where there is no network.
            found = self._api.repo_info(self.name, repo_type=self.kind, revision=self.revision)
        return [file.rfilename for file in getattr(found, "siblings", None) or []]

    def _verify(self, folder: Path) -> None:
        """Downloads are not compared by huggingface_hub itself, nor by the library datasets."""
        with self._clear_errors("its checksums"):
            found = self._api.verify_repo_checksums(
                self.name, repo_type=self.kind, revision=self.revision, local_dir=folder
            )
        for wrong in found.mismatches:
            raise InputError(
                f"{self.where}: {wrong['path']} arrived with the checksum {wrong['actual'][:12]}, but the Hub declares "
                f"{wrong['expected'][:12]}; try again; if the mismatch persists, {self._instead}"
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

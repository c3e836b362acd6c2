"""Files that appear complete or not at all, and digests of their contents."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ept.errors import InputError, shortened

# The key in settings.json under which the SHA-256 of files that were written with it stand by their names.
DIGESTS = "sha256"
# By errno, why nothing more can be written.
NO_SPACE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EFBIG: "the file would exceed the limit on file sizes (`ulimit -f`); raise it and run the same command again",
}
# Rust, Arrow and C++ say it in words.
_NO_SPACE_TEXT = re.compile(r"os error (\d+)\b|(No space left on device)|(Disk quota exceeded)|(File too large)")


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; on success it is flushed to disk and renamed, on failure removed.

    The file gets the permissions that any new file gets (0666 less the umask), also where the library that wrote it
    asked for others. What a killed writer of `path` left is removed. Raises InputError where the disk is full.
    """
    path = Path(path)
    with _full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        with _temporary(path, _make_file) as temporary:
            mode = temporary.stat().st_mode
            yield temporary
            _flush(temporary)
            temporary.chmod(mode & 0o777)
            temporary.replace(path)


@contextlib.contextmanager
def write_folder_atomically(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder`; on success its files are flushed and it is renamed, else removed.

    Folders and files in it get the permissions that any new ones get (0777 and 0666 less the umask). What a killed
    writer of `folder` left is removed. Raises InputError where the disk is full.
    """
    folder = Path(folder)
    with _full_disk_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        with _temporary(folder, Path.mkdir) as temporary:
            mode = temporary.stat().st_mode & 0o777
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_dir():
                    path.chmod(mode)
                else:
                    path.chmod(mode & 0o666)
                    _flush(path)
            temporary.chmod(mode)
            temporary.rename(folder)


def _make_file(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


@contextlib.contextmanager
def _temporary(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder next to `path`: its name between a dot and eight hexadecimal digits. It is gone at the end.

    A lock says that it is being written, for as long as the process lives (see leftovers).
    """
    temporary, handle = _locked(path, make)
    try:
        yield temporary
    finally:
        os.close(handle)
        _remove(temporary)


def _locked(path: Path, make: Callable[[Path], None]) -> tuple[Path, int]:
    """A new temporary file or folder of `path`, and the open lock on it."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}"
        make(temporary)
        # Before the lock, another writer of `path` may take it for a leftover: then once more.
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(temporary, os.O_RDONLY)
            try:
                # A file system without locks: nothing is removed there.
                with contextlib.suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_SH)
                if os.path.samestat(os.fstat(handle), os.stat(temporary)):
                    return temporary, handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)


def leftovers(path: str | Path) -> list[Path]:
    """Temporary files and folders of `path` whose writer was killed; those of a process that still writes are not."""
    return [other for other in _temporaries(Path(path)) if _if_abandoned(other)]


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary files and folders of `path` whose writer was killed."""
    for other in _temporaries(Path(path)):
        _if_abandoned(other, _remove)


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _temporaries(path: Path) -> list[Path]:
    named = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}")
    try:
        return sorted(other for other in path.parent.iterdir() if named.fullmatch(other.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _if_abandoned(temporary: Path, then: Callable[[Path], object] = lambda path: None) -> bool:
    """Whether nobody writes a temporary file; if so, `then` is done to it while nobody can begin to."""
    try:
        handle = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        then(temporary)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    """Turn the error for a full disk, which every library reports in its own way, into one sentence with the path."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if reason := _no_space(error):
            raise InputError(f"{path} cannot be written: {reason}") from error
        raise


def _no_space(error: Exception) -> str | None:
    """Why nothing more can be written, and the remedy; None for any other error."""
    number = getattr(error, "errno", None)
    if number is None and (found := _NO_SPACE_TEXT.search(str(error))):
        by_words = dict(zip(found.groups()[1:], NO_SPACE, strict=True))
        number = int(found[1]) if found[1] else by_words.get(found[0])
    return NO_SPACE.get(number) if number is not None else None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically; NaN and infinity, which JSON lacks, raise ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text. Raises ValueError for anything else, also where it is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no blanks: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 8) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content in hexadecimal, read now; `content_digest` remembers it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# In the form of the program sha256sum: what a folder for other programs holds, which may have no other digests.
SUMS_FILE = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """Write `SHA256SUMS` with the digests of a folder's files (`sha256sum --check SHA256SUMS` compares them)."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    write_text(folder / SUMS_FILE, "".join(f"{sha256_file(path)}  {path.name}\n" for path in files))


def check_sums(folder: Path) -> None:
    """Raise InputError for a file of a folder that is not the one that its SHA256SUMS names; without that, for none."""
    path = folder / SUMS_FILE
    if not path.is_file():
        return
    remedy = f"copy the folder again, or remove {path} if you changed a file yourself"
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64})  ([^/\0]+)", line)
        if not found:
            raise InputError(f"{path} is damaged: {shortened(repr(line), 80)} is not a digest and a name; {remedy}")
        if not (folder / found[2]).is_file() or sha256_file(folder / found[2]) != found[1]:
            raise InputError(f"{folder / found[2]} is not the file that {SUMS_FILE} names; {remedy}")


# Bytes. Smaller files are read again every time: that takes a millisecond.
REMEMBERED_FROM = 2**20
PROGRESS_FROM = 2**30
_CHUNK = 2**23
# Time stamps have a resolution (2 s on FAT): a younger file could change again and still look the same.
_YOUNG_NS = 2_000_000_000


def content_digest(path: str | Path) -> str:
    """The SHA-256 of a file's content in hexadecimal, remembered in the user's cache folder.

    A file is read once (about a second per gigabyte; progress is shown on standard error from one gigabyte) and again
    only when its path (links resolved), size, modification time, change time or inode has changed. Only a change that
    leaves all of them as they were goes unnoticed, such as damage on the disk itself. The cache is
    `$XDG_CACHE_HOME/ept/digests`, or `~/.cache/ept/digests`; where it cannot be written, the file is read every time.
    """
    path = Path(os.path.realpath(path))
    before = _fingerprint(path)
    if before[0] < REMEMBERED_FROM:
        return sha256_file(path)
    entry = _cache_entry(path)
    if entry and (known := _remembered(entry, before)):
        return known
    found = _sha256_with_progress(path, before[0])
    settled = time.time_ns() - max(before[1:3]) > _YOUNG_NS
    if entry and settled and _fingerprint(path) == before:
        with contextlib.suppress(OSError, InputError):
            write_json(entry, {"path": str(path), "fingerprint": before, "sha256": found})
    return found


def content_digests(files: Mapping[str, str | Path]) -> str:
    """One SHA-256 in hexadecimal over the names and contents of several files, in any order; see `content_digest`."""
    return digest({name: content_digest(path) for name, path in files.items()}, length=64)


def _fingerprint(path: Path) -> list[int]:
    """What changes when a file does: size, modification and change time in nanoseconds, inode."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _cache_entry(path: Path) -> Path | None:
    """Where the digest of `path` is remembered; None for a user without a home."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(folder) if os.path.isabs(folder) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return cache / "ept" / "digests" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def _remembered(entry: Path, fingerprint: list[int]) -> str | None:
    """The digest in a cache entry, if it is whole and of the same file."""
    try:
        values = parse_json(entry.read_text(encoding="utf-8"))
        fits = values["fingerprint"] == fingerprint and re.fullmatch("[0-9a-f]{64}", values["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return values["sha256"] if fits else None


def _sha256_with_progress(path: Path, size: int) -> str:
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file, _progress(path, size) as advance:
        buffer = memoryview(bytearray(_CHUNK))
        while count := file.readinto(buffer):
            found.update(buffer[:count])
            advance(count)
    return found.hexdigest()


@contextlib.contextmanager
def _progress(path: Path, size: int) -> Iterator[Callable[[int], object]]:
    """A function that counts bytes: shown for a large file, silent for others."""
    if size < PROGRESS_FROM:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(total=size, desc=f"reading {path.name}", unit="B", unit_scale=True, leave=False, mininterval=1) as bar:
        yield bar.update

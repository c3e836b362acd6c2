"""Files appear whole with the user's permissions, or not at all; digests follow the content."""

import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ept import files
from ept.errors import InputError
from ept.files import (
    content_digest,
    content_digests,
    leftovers,
    write_atomically,
    write_folder_atomically,
    write_text,
)

MASKS = [0o022, 0o002, 0o077, 0o027]


@pytest.fixture(params=MASKS, ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _mode(path):
    return path.stat().st_mode & 0o777


def _private(path):
    """As libraries do that write to a file of their own first."""
    os.close(os.open(path.with_suffix(".own"), os.O_CREAT | os.O_WRONLY, 0o600))
    path.with_suffix(".own").replace(path)


def test_a_file_has_the_permissions_of_any_new_file(tmp_path, umask):
    for name, write in {
        "a": Path.touch,
        "b": _private,
        "c": lambda path: save_file({"x": torch.ones(2)}, path),
    }.items():
        with write_atomically(tmp_path / name) as temporary:
            write(temporary)
        assert _mode(tmp_path / name) == 0o666 & ~umask


def test_a_folder_and_what_is_in_it_have_the_permissions_of_new_ones(tmp_path, umask):
    with write_folder_atomically(tmp_path / "new") as temporary:
        _private(temporary / "a")
        (temporary / "sub").mkdir(mode=0o700)
        _private(temporary / "sub" / "b")
    assert {_mode(tmp_path / "new"), _mode(tmp_path / "new" / "sub")} == {0o777 & ~umask}
    assert {_mode(tmp_path / "new" / "a"), _mode(tmp_path / "new" / "sub" / "b")} == {0o666 & ~umask}


@pytest.mark.parametrize("write", [write_atomically, write_folder_atomically])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_or_is_interrupted_leaves_nothing(tmp_path, write, error):
    with pytest.raises(error), write(tmp_path / "sub" / "new"):
        raise error
    assert not any((tmp_path / "sub").iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
from ept import files
with getattr(files, sys.argv[1])(sys.argv[2]) as temporary:
    if temporary.is_dir():
        (temporary / "part").write_text("x")
    print(temporary.name, flush=True)
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def _writer(path, write, fate):
    """A process that writes `path` and is killed, or goes on until its input ends; and its temporary file."""
    command = [sys.executable, "-c", KILLED, write.__name__, path, fate]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, path.with_name(process.stdout.readline().strip())


@pytest.mark.parametrize("write", [write_atomically, write_folder_atomically])
def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path, write):
    path = tmp_path / "new"
    others = [tmp_path / name for name in (".new.0123456", ".new.0123456g", ".newer.01234567", "new.01234567")]
    for other in others:
        other.touch()
    killed, left = _writer(path, write, "killed")
    assert killed.wait() == -signal.SIGKILL and left.exists() and leftovers(path) == [left]
    living, written = _writer(path, write, "living")
    assert not left.exists() and leftovers(path) == []
    with pytest.raises(ZeroDivisionError), write(path):
        written.stat().st_size / 0
    living.communicate("", timeout=60)
    assert living.returncode == 0 and path.exists()
    assert {other.name for other in tmp_path.iterdir()} == {"new", *(other.name for other in others)}


def test_many_writers_of_one_file_leave_one_of_their_files(tmp_path):
    """Those that take another's new file for a leftover before it is locked would make it fail."""
    path = tmp_path / "new"

    def write(number):
        for _ in range(200):
            write_text(path, str(number))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert path.read_text() in "01234567" and list(tmp_path.iterdir()) == [path]


NO_SPACE = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    OSError(errno.EFBIG, "File too large"),
    OSError("IOError: [Errno 28] No space left on device"),
    OSError("Disk quota exceeded"),
    files.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    files.SafetensorError("Error while serializing: I/O error: File too large (os error 27)"),
]


@pytest.mark.parametrize("write", [write_atomically, write_folder_atomically])
@pytest.mark.parametrize("error", NO_SPACE, ids=str)
def test_no_space_left_is_one_sentence_with_the_file(tmp_path, write, error):
    with pytest.raises(InputError) as caught, write(tmp_path / "new"):
        raise error
    assert str(tmp_path / "new") in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_error_is_passed_on(tmp_path):
    with pytest.raises(OSError, match="other"), write_atomically(tmp_path / "new"):
        raise OSError(errno.EIO, "other")


def test_a_limit_on_file_sizes_is_one_sentence(tmp_path):
    code = (
        "import sys\nfrom ept.errors import InputError\nfrom ept.files import write_text\n"
        "try:\n    write_text(sys.argv[1], 'x' * 10**6)\nexcept InputError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "new")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "new") in done.stdout and "ulimit" in done.stdout and done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder, empty; files of 64 bytes and an age of 10 s are remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "REMEMBERED_FROM", 64)
    return tmp_path / "cache" / "ept" / "digests"


def _aged(monkeypatch):
    """Let every file look ten seconds older than it is."""
    now = files.time.time_ns
    monkeypatch.setattr(files.time, "time_ns", lambda: now() + 10**10)


def _reads(monkeypatch):
    """The files that are read from now on."""
    found, read = [], files._sha256_with_progress
    monkeypatch.setattr(files, "_sha256_with_progress", lambda path, size: found.append(path.name) or read(path, size))
    return found


@pytest.mark.parametrize("size", [0, 10, 64, 10**6, 2**23 + 1])
def test_the_digest_is_that_of_the_content(tmp_path, cache, monkeypatch, size):
    content = os.urandom(size)
    (tmp_path / "a").write_bytes(content)
    _aged(monkeypatch)
    assert content_digest(tmp_path / "a") == content_digest(str(tmp_path / "a")) == hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_until_it_changes(tmp_path, cache, monkeypatch):
    file, link = tmp_path / "a", tmp_path / "link"
    file.write_bytes(b"a" * 100)
    link.symlink_to(file)
    _aged(monkeypatch)
    reads = _reads(monkeypatch)
    first = {content_digest(path) for path in (file, link, file)}
    assert len(first) == 1 and reads == ["a"]
    # Of the same size, with the time stamp of before: the change time tells.
    stamp = file.stat().st_mtime_ns
    file.write_bytes(b"b" * 100)
    os.utime(file, ns=(stamp, stamp))
    assert content_digest(file) == hashlib.sha256(b"b" * 100).hexdigest()
    # Another file put in its place.
    (tmp_path / "c").write_bytes(b"c" * 100)
    os.utime(tmp_path / "c", ns=(stamp, stamp))
    (tmp_path / "c").replace(file)
    assert content_digest(file) == hashlib.sha256(b"c" * 100).hexdigest()
    assert reads == ["a"] * 3


def test_a_file_that_was_just_written_is_not_remembered(tmp_path, cache, monkeypatch):
    (tmp_path / "a").write_bytes(b"a" * 100)
    reads = _reads(monkeypatch)
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "a")
    assert reads == ["a", "a"] and not cache.exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"fingerprint": 5}', None])
def test_a_damaged_entry_of_the_cache_is_replaced(tmp_path, cache, monkeypatch, damage):
    (tmp_path / "a").write_bytes(b"a" * 100)
    _aged(monkeypatch)
    expected = content_digest(tmp_path / "a")
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(json.dumps(json.loads(whole) | {"sha256": "0"}).encode() if damage is None else damage)
    assert content_digest(tmp_path / "a") == expected
    assert entry.read_bytes() == whole


def test_without_a_cache_folder_every_file_is_read(tmp_path, cache, monkeypatch):
    (tmp_path / "a").write_bytes(b"a" * 100)
    (tmp_path / "cache").write_text("a file where the folder should be")
    _aged(monkeypatch)
    expected = hashlib.sha256(b"a" * 100).hexdigest()
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "a") == expected
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert content_digest(tmp_path / "a") == expected


def test_a_missing_file_is_an_error_with_its_name(tmp_path, cache):
    with pytest.raises(FileNotFoundError) as caught:
        content_digest(tmp_path / "none")
    assert caught.value.filename == str(tmp_path / "none")


def test_progress_is_shown_for_large_files_only(tmp_path, cache, monkeypatch, capsys):
    (tmp_path / "big").write_bytes(b"a" * 1000)
    content_digest(tmp_path / "big")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(files, "PROGRESS_FROM", 1000)
    assert content_digest(tmp_path / "big") == hashlib.sha256(b"a" * 1000).hexdigest()
    assert "big" in capsys.readouterr().err


def test_one_digest_of_several_files_tells_names_and_contents_apart(tmp_path, cache):
    write_text(tmp_path / "a", "1")
    write_text(tmp_path / "b", "2")
    a, b = tmp_path / "a", tmp_path / "b"
    same = [content_digests({"x": a, "y": b}), content_digests({"y": str(b), "x": a})]
    others = [content_digests(files) for files in ({"x": b, "y": a}, {"x": a}, {"x": a, "z": b}, {})]
    assert len(set(same)) == 1 and len({*same, *others}) == 5
    assert all(len(value) == 64 for value in same)

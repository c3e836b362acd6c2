"""A remote that breaks off, refuses or is full: one sentence, nothing lost, and the next try completes."""

import contextlib
import hashlib
import subprocess

import pytest

from dvc_clone import Clone

FILES, BYTES = 12, 100_000
STAGE = f"""
stages:
  prompts:
    cmd: >-
      mkdir -p prompts && for i in $(seq {FILES}); do head -c {BYTES - 10} /dev/zero > prompts/$i;
      printf %010d $i >> prompts/$i; done
    outs: [prompts]
"""


@pytest.fixture(scope="module")
def recorded(project, tmp_path_factory) -> Clone:
    """A small repository with a dozen recorded files instead of a whole workflow's."""
    folder = tmp_path_factory.mktemp("small") / "recorded"
    folder.mkdir()
    clone = Clone(folder, project / "src")
    (folder / "dvc.yaml").write_text(STAGE)
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["dvc", "repro", "--quiet"]):
        clone.run(*command)
    clone.commit()
    return clone


@contextlib.contextmanager
def _full_disk(folder):
    """A disk of a third of the files' size; yields a function that makes it large enough."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={FILES * BYTES // 3}", "ept-test", folder]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine does not allow to mount a small disk")
    try:
        yield lambda: subprocess.run(["mount", "-o", f"remount,size={FILES * BYTES * 4}", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


def _contents(clone: Clone) -> dict[str, str]:
    files = (clone.folder / "prompts").iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _sentence(clone: Clone, verb: str, *words: str, **environment: str) -> None:
    """The verb fails with one sentence that has these words, and the recorded files are untouched."""
    output = clone.run("ept", verb, fails=True, **environment)
    assert output.startswith("error: ") and output.count("\n") == 1, output
    for word in words:
        assert word in output


def _completes(recorded: Clone, clone: Clone) -> None:
    """Another clone can pull all that was pushed."""
    assert "up to date" in recorded.run("dvc", "status")
    clone.run("ept", "pull")
    assert _contents(clone) == _contents(recorded)
    assert len(_contents(clone)) == FILES
    assert "up to date" in clone.run("dvc", "status")


def _with_remote(recorded: Clone, folder, url, **options: str) -> Clone:
    """Set the remote, and return a fresh clone that has it too."""
    recorded.add_remote(url, **options)
    clone = recorded.clone(folder)
    clone.add_remote(url, **options)
    return clone


@pytest.mark.long
def test_a_remote_that_breaks_off_midway(recorded, s3, tmp_path):
    clone = _with_remote(recorded, tmp_path / "clone", s3.url("broken"), **s3.options)
    with s3.breaking_off("PUT", after=FILES // 3):
        _sentence(recorded, "push", "s3://", "broke off", "what has arrived stays", AWS_MAX_ATTEMPTS="1")
    # A third had arrived.
    sent = int(recorded.run("ept", "push").split()[0])
    assert 0 < sent <= FILES + 1 - FILES // 3
    _completes(recorded, clone)


@pytest.mark.long
def test_a_remote_that_breaks_off_while_it_is_read(recorded, s3, tmp_path):
    clone = _with_remote(recorded, tmp_path / "clone", s3.url("unread"), **s3.options)
    recorded.run("ept", "push")
    with s3.breaking_off("GET", after=FILES // 2):
        _sentence(clone, "pull", "s3://", "broke off", "what has arrived stays", AWS_MAX_ATTEMPTS="1")
    # Some arrived, each of them whole; nothing is in its place yet.
    arrived = list(clone.folder.glob(".dvc/cache/files/md5/??/*"))
    assert 0 < len(arrived) < FILES
    assert all(hashlib.md5(path.read_bytes()).hexdigest() == path.parent.name + path.name for path in arrived)
    assert not (clone.folder / "prompts").exists()
    assert "up to date" not in clone.run("dvc", "status")
    # The files that had not arrived, and the list of all.
    assert clone.run("ept", "pull") == f"{FILES - len(arrived) + 1} files fetched\n"
    _completes(recorded, clone)


@pytest.mark.long
def test_a_wrong_key(recorded, s3, tmp_path):
    url = s3.url("key")
    clone = _with_remote(recorded, tmp_path / "clone", url, **s3.options)
    for option in ("access_key_id", "secret_access_key"):
        recorded.add_remote(url, **{**s3.options, option: "AKIAWRONG"})
        _sentence(recorded, "push", "refuses the key", "dvc remote modify --local")
    recorded.add_remote(url, **s3.options)
    recorded.run("ept", "push")
    clone.add_remote(url, **{**s3.options, "access_key_id": "AKIAWRONG"})
    _sentence(clone, "pull", "refuses the key")
    clone.add_remote(url, **s3.options)
    _completes(recorded, clone)


@pytest.mark.long
def test_a_bucket_or_a_server_that_is_not_there(recorded, s3):
    recorded.add_remote("s3://no-such-bucket/store", **s3.options)
    _sentence(recorded, "push", "bucket does not exist")
    recorded.add_remote(s3.url("elsewhere"), **{**s3.options, "endpointurl": "http://127.0.0.1:9"})
    _sentence(recorded, "push", "cannot be reached", AWS_MAX_ATTEMPTS="1")


@pytest.mark.long
def test_a_store_on_a_full_disk(recorded, tmp_path):
    with _full_disk(tmp_path / "disk") as enlarge:
        clone = _with_remote(recorded, tmp_path / "clone", tmp_path / "disk/store")
        _sentence(recorded, "push", "a disk is full")
        enlarge()
        recorded.run("ept", "push")
        _completes(recorded, clone)


@pytest.mark.long
def test_a_clone_on_a_full_disk(recorded, tmp_path):
    with _full_disk(tmp_path / "disk") as enlarge:
        clone = _with_remote(recorded, tmp_path / "disk/clone", tmp_path / "store")
        recorded.run("ept", "push")
        _sentence(clone, "pull", "a disk is full")
        enlarge()
        _completes(recorded, clone)


def test_what_no_remote_can_help_with(recorded, tmp_path):
    (recorded.folder / ".dvc/config.local").unlink(missing_ok=True)
    _sentence(recorded, "push", "no remote is set", "dvc remote add --local")
    clone = _with_remote(recorded, tmp_path / "clone", tmp_path / "store")
    _sentence(clone, "pull", "it lacks files", "push them")
    lock = clone.folder / "dvc.lock"
    lock.write_text(f"<<<<<<< HEAD\n{lock.read_text()}=======\n>>>>>>> other\n")
    # DVC's own words, which are several lines.
    _sentence(clone, "pull", "dvc.lock")
    lock.unlink()
    _sentence(clone, "pull", "no dvc.lock", "dvc repro")

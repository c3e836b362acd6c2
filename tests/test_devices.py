"""GPUs are shared out between real processes, on devices that need not exist; threads as their libraries see them."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import textwrap
from collections import defaultdict

import pytest
import torch

from ept.devices import (
    THREAD_VARIABLES,
    cpu_bfloat16,
    free_gpus,
    limit_threads,
    lock_folder,
    set_tf32,
    taken,
    visible_gpus,
)
from ept.errors import InputError

# Takes a device, writes when it had it, and holds it for a while.
HOLDER = """
    import json, sys, time
    from pathlib import Path
    from ept.devices import taken
    folder, names, count, seconds, log = sys.argv[1:]
    with taken(names.split(","), int(count), Path(folder)) as found:
        start = time.monotonic()
        print(*found, flush=True)
        time.sleep(float(seconds))
        with open(log, "a") as file:
            for name in found:
                file.write(json.dumps([name, start, time.monotonic()]) + "\\n")
"""
THREADS = """
    from ept.devices import limit_threads
    limit_threads(1)
    import json, os
    import numpy, pyarrow, torch
    from threadpoolctl import threadpool_info
    from tokenizers import Tokenizer, models, pre_tokenizers
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "u": 1}, unk_token="u"))
    before = len(os.listdir("/proc/self/task"))
    tokenizer.encode_batch(["a u"] * 1000)
    started = len(os.listdir("/proc/self/task")) - before
    pools = {pool["num_threads"] for pool in threadpool_info()}
    print(json.dumps([sorted(pools), torch.get_num_threads(), pyarrow.cpu_count(), started]))
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_eight_processes_on_four_devices_never_share_one(tmp_path):
    log = tmp_path / "log"
    jobs = [start(HOLDER, tmp_path / "locks", "0,1,2,3", 1, 0.3, log) for _ in range(6)]
    # And two that want two each.
    jobs += [start(HOLDER, tmp_path / "locks", "0,1,2,3", 2, 0.3, log) for _ in range(2)]
    for job in jobs:
        assert job.wait(timeout=60) == 0
    held = defaultdict(list)
    for line in log.read_text().splitlines():
        name, begin, end = json.loads(line)
        held[name].append((begin, end))
    assert set(held) == set("0123") and sum(map(len, held.values())) == 6 + 2 * 2
    for spans in held.values():
        spans.sort()
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_killed_process_frees_its_device_and_who_waits_says_so(tmp_path):
    holder = start(HOLDER, tmp_path / "locks", "0", 1, 100, tmp_path / "log")
    assert holder.stdout.readline() == "0\n"
    waiting = start(HOLDER, tmp_path / "locks", "0", 1, 0, tmp_path / "log")
    sentence = waiting.stderr.readline()
    assert "1" in sentence and "(0)" in sentence and "--resources gpu=1" in sentence
    assert waiting.poll() is None
    holder.kill()
    assert waiting.wait(timeout=30) == 0
    assert waiting.stdout.read() == "0\n"


def test_a_device_is_free_again_after_the_block_and_after_an_error(tmp_path):
    for _ in range(2):
        with contextlib.suppress(RuntimeError), taken(["a", "b"], 1, tmp_path) as first:
            with taken(["a", "b"], 1, tmp_path) as second:
                assert (first, second) == (["a"], ["b"])
            raise RuntimeError


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [(None, 3, ["0", "1", "2"]), ("1,3", 2, ["1", "3"]), ("GPU-5a, GPU-7b", 2, ["GPU-5a", "GPU-7b"]), ("", 0, [])],
)
def test_only_visible_devices_are_taken(monkeypatch, variable, count, expected):
    # What torch counts already keeps to the variable.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == expected


def test_a_job_sees_its_one_device_or_none(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    # A backbone that is spread over three gets the two that there are.
    with free_gpus(3):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"
    with free_gpus(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
        # Another job's process still sees both.
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
        with free_gpus(1):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
        with free_gpus(0):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_jobs_of_a_cluster_do_not_wait_for_each_other(monkeypatch, tmp_path):
    """Slurm numbers the GPUs of every job from 0 where it confines devices."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = set()
    for job in (None, "17", "18"):
        monkeypatch.setenv("SLURM_JOB_ID", job) if job else monkeypatch.delenv("SLURM_JOB_ID", raising=False)
        folders.add(lock_folder())
    assert len(folders) == 3 and {folder.parent for folder in folders} == {tmp_path}


def test_libraries_start_no_more_threads_than_they_are_told():
    job = start(THREADS)
    output, errors = job.communicate(timeout=60)
    assert job.returncode == 0, errors
    pools, torch_threads, arrow_threads, tokenizer_threads = json.loads(output)
    assert pools == [1] and torch_threads == arrow_threads == 1
    assert tokenizer_threads <= 1


@pytest.mark.parametrize("threads", [0, -1, 1025, 99999999999])
def test_a_number_of_threads_that_no_library_takes_is_refused(monkeypatch, threads):
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "7")
    with pytest.raises(InputError) as caught:
        limit_threads(threads)
    assert str(threads) in str(caught.value) and "1024" in str(caught.value)
    assert {os.environ[name] for name in THREAD_VARIABLES} == {"7"}


def test_tf32_is_switched_for_all_products_of_float32():
    try:
        for allowed in (True, False):
            set_tf32(allowed)
            assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == allowed
    finally:
        set_tf32(False)


@pytest.mark.parametrize("kind", ["link", "file", "broken link"])
def test_a_lock_folder_that_is_a_link_is_not_followed(tmp_path, kind):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "locks"
    if kind == "file":
        folder.write_text("")
    else:
        if kind == "link":
            elsewhere.mkdir()
        folder.symlink_to(elsewhere)
    with pytest.raises(InputError) as caught, taken(["0"], 1, folder):
        pass
    assert str(folder) in str(caught.value)
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_a_lock_folder_is_for_its_user_alone(tmp_path):
    with taken(["0"], 1, tmp_path / "new" / "locks"):
        assert (tmp_path / "new" / "locks").stat().st_mode & 0o777 == 0o700


def test_a_link_in_the_place_of_a_lock_file_is_not_written_through(tmp_path):
    folder, precious = tmp_path / "locks", tmp_path / "precious"
    folder.mkdir(mode=0o700)
    precious.write_text("kept")
    (folder / "0.lock").symlink_to(precious)
    with contextlib.suppress(OSError, InputError), taken(["0"], 1, folder):
        pass
    assert precious.read_text() == "kept"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n", "amx_bf16"),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", "avx512_bf16"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 sve\n", "bf16"),
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16_more\n", None),
        ("", None),
    ],
)
def test_bfloat16_instructions_of_the_cpu(tmp_path, text, found):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu_bfloat16(tmp_path / "cpuinfo") == found
    assert cpu_bfloat16(tmp_path / "missing") is None

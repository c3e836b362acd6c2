"""What the workflow asks for: little for the demonstration, a GPU for large backbones, more at later attempts."""

import subprocess
import sys

import pytest

from ept.config.configuration import load_configuration, parse_configuration
from ept.cost.estimate import backbone_shape, task_sizes
from ept.cost.hardware import GPUS
from ept.cost.plan import priced
from ept.cost.resources import LONGEST_MINUTES, JobResources
from ept.plan.experiment import Experiment


def experiment(project, name):
    return Experiment(load_configuration(project / "config" / f"{name}.yaml"))


def paper(**changes):
    values = {
        "backbone": {
            "name": "x",
            "source": "hub",
            "id": "google-t5/t5-base",
            "revision": "0" * 40,
            "dtype": "bfloat16",
        },
        "data": {"source": "hub"},
        "tasks": {"target": ["rte", "mnli"]},
        "methods": ["pt", "fine_tuning"],
    }
    return Experiment(parse_configuration(values | changes))


def test_the_demonstration_needs_no_gpu_and_as_many_jobs_as_cores_fit_into_little_memory(project):
    plan = experiment(project, "config")
    resources = JobResources(plan)
    assert (resources.gpus, resources.threads) == (0, 1)
    assert {resources.memory_mb(pack) for pack in plan.packs} == {2000}
    assert all(resources.minutes(pack) <= 60 for pack in plan.packs)


def test_later_attempts_get_more_up_to_twice_the_memory_and_a_day(project):
    for plan in (experiment(project, "config"), paper()):
        resources = JobResources(plan)
        for pack in plan.packs[::5]:
            first, second, last = (resources.memory_mb(pack, attempt) for attempt in (1, 2, 20))
            assert first > 0 and second == last == 2 * first
            minutes = [resources.minutes(pack, attempt) for attempt in (1, 2, 20)]
            assert minutes == [min(24 * 60, number * minutes[0]) for number in (1, 2, 20)]


def test_time_limits_are_three_times_what_the_plan_says(project, tmp_path, monkeypatch):
    """Of every method, also of those that compute in float32; or a day."""
    config = project / "config/paper.yaml"
    # Where no backbone has been downloaded.
    monkeypatch.chdir(tmp_path)
    plan = Experiment(load_configuration(config))
    resources = JobResources(plan)
    (a100,) = [gpu for gpu in GPUS if gpu.name == "A100"]
    shares = []
    for found in priced(plan, backbone_shape(plan), gpu=True):
        minutes, hours = resources.minutes(found.pack), found.cost.hours(a100)
        assert minutes >= min(3 * 60 * hours, 24 * 60)
        shares.append((found.pack.method, minutes < 24 * 60, hours))
    # Both sides of the limit are there, in float32 too.
    assert {under for method, under, _ in shares if method == "fine_tuning"} == {True, False}


def test_zero_shot_gets_three_times_its_predictions():
    """Two operations a parameter and piece, at 30 % of an A100's peak; and 20 minutes to start."""
    llama = {"name": "x", "source": "hub", "id": "meta-llama/Llama-2-7b-hf", "revision": "0" * 40, "dtype": "bfloat16"}
    plan = paper(backbone=llama, methods=["pt"], tasks={"target": ["mnli", "record"]})
    pieces = sum(task_sizes()[task].test_rows * task_sizes()[task].pieces for task in ("mnli", "record"))
    needed = 3 * 2 * 6.6e9 * pieces / (0.3 * 312e12) / 60
    minutes = JobResources(plan).zero_shot_minutes()
    assert needed > 20 and 20 + needed <= minutes <= 20 + 1.2 * needed + 10
    assert [JobResources(plan).zero_shot_minutes(attempt) for attempt in (2, 99)] == [2 * minutes, 24 * 60]


@pytest.mark.parametrize(("name", "megabytes"), [("t5-3b", 4_000), ("t5-11b", 45_000)])
def test_a_backbone_without_safetensors_may_have_to_be_read_whole(project, name, megabytes, tmp_path, monkeypatch):
    plan = experiment(project, name)
    monkeypatch.chdir(tmp_path)
    resources = JobResources(plan)
    assert megabytes <= resources.download_mb() < megabytes + 3_000
    assert resources.download_mb(2) == resources.download_mb(9) == 2 * resources.download_mb()


def test_larger_backbones_and_longer_tasks_ask_for_more():
    small, large = paper(), paper(backbone=paper().config.backbone.model_copy(update={"id": "google-t5/t5-3b"}))
    assert JobResources(small).gpus == JobResources(large).gpus == 1
    assert JobResources(small).memory_mb(small.packs[0]) < JobResources(large).memory_mb(large.packs[0])
    short, long = (small.pack("pt", task, "k16", "scratch") for task in ("rte", "mnli"))
    assert JobResources(small).minutes(short) <= JobResources(small).minutes(long)
    full = small.pack("pt", "rte", "full", "scratch")
    assert JobResources(small).minutes(short) < JobResources(small).minutes(full)
    assert JobResources(small).minutes(full) <= JobResources(large).minutes(large.pack("pt", "rte", "full", "scratch"))


def test_a_backbone_that_is_not_known_before_its_download_gets_a_gpu_and_much_of_all():
    unknown = paper(backbone=paper().config.backbone.model_copy(update={"id": "someone/own-t5"}))
    resources = JobResources(unknown)
    assert resources.gpus == 1
    assert resources.memory_mb(unknown.packs[0], 2) == 2 * resources.memory_mb(unknown.packs[0])
    assert resources.minutes(unknown.packs[0]) == LONGEST_MINUTES


def test_nothing_heavy_is_imported_where_rules_are_read():
    code = "import sys, ept.cost.resources; print(*{'torch', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []

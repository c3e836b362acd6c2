"""What the workflow asks for: little for the demonstration, a GPU for large backbones, more at each attempt."""

import subprocess
import sys

from ept.config import load_configuration, parse_configuration
from ept.cost.resources import LONGEST_MINUTES, JobResources
from ept.experiment import Experiment


def experiment(project, name):
    return Experiment(load_configuration(project / "config" / f"{name}.yaml"))


def paper(**changes):
    values = {
        "backbone": {"name": "x", "source": "hub", "id": "google-t5/t5-base", "revision": "0" * 40},
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


def test_each_attempt_gets_more_up_to_a_day(project):
    for plan in (experiment(project, "config"), paper()):
        resources = JobResources(plan)
        for pack in plan.packs[::5]:
            first, second, third = (resources.memory_mb(pack, attempt) for attempt in (1, 2, 3))
            assert first > 0 and (second, third) == (2 * first, 3 * first)
            minutes = [resources.minutes(pack, attempt) for attempt in (1, 2, 3)]
            assert minutes == [min(LONGEST_MINUTES, number * minutes[0]) for number in (1, 2, 3)]


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

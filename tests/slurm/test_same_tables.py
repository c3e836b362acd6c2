"""The workflow through a real SLURM ends in the tables of a local run, whatever happens to its jobs."""

import re
import signal
from typing import NamedTuple

import pytest

from ept.config.configuration import parse_configuration
from ept.plan.experiment import Experiment
from ept.plan.paths import TABLE_ENDINGS
from ept.plan.tables import EFFICIENCY
from slurm.faults import cancel, kill, preempt, reach_the_time_limit, strike
from slurm.single_node import call, wait_for
from workflow_runner import Workflow

# A dozen jobs, three times; each starts Snakemake and the program anew.
pytestmark = pytest.mark.long

TRAINING = {
    "batch_size": 4,
    "runs_per_pass": 2,
    "steps": 180,
    "warmup_steps": 10,
    "evaluate_every": 90,
    "validation_rows": 16,
}
RATES = {"pt": {"prompt": [0.3]}, "spot": {"prompt": [0.3]}, "ept": {"prompt": [0.3], "low_rank": [0.005]}}
VALUES = {
    "data": {"source_length": {"default": 64}},
    "tasks": {"target": ["cb"], "source": ["sst2"]},
    "methods": ["pt", "spot", "ept"],
    "seeds": [0, 1],
    "prompt": {"length": 10, "short_length": 6, "reference_length": 64},
    "training": {**TRAINING, "learning_rates": RATES},
    "few_shot": {
        "k": [4],
        "initialize_from": ["scratch"],
        **{name: value for name, value in TRAINING.items() if name not in ("pack", "validation_rows")},
    },
}


@pytest.fixture(scope="module")
def local(slurm, project, tmp_path_factory):
    """The workflow, finished without SLURM; not even begun where there is none."""
    workflow = Workflow(project, tmp_path_factory.mktemp("local"))
    workflow.run("tables", config=workflow.configure(VALUES))
    return workflow


@pytest.fixture(scope="module")
def packs():
    """Every pack by method and regime."""
    return {(pack.method, pack.regime): pack for pack in Experiment(parse_configuration(VALUES)).packs}


def _start(workflow, *arguments):
    """The workflow through SLURM; what Snakemake prints goes into a file."""
    with (workflow.folder / "snakemake.log").open("a") as output:
        config = workflow.configure(VALUES)
        return workflow.start(*arguments, config=config, profile="slurm-test", output=output)


def _finish(workflow, snakemake, faults):
    """Let the faults happen and Snakemake end, well."""
    strike(snakemake, workflow.folder, faults)
    said = (workflow.folder / "snakemake.log").read_text()
    assert snakemake.returncode == 0, said[-6000:]
    assert not faults
    return said


def _equal_tables(workflow, local, *tables):
    for name in (f"results/{table}.{ending}" for table in tables for ending in (*TABLE_ENDINGS, "settings.json")):
        assert (workflow.folder / name).read_bytes() == (local.folder / name).read_bytes()


class Ended(NamedTuple):
    """What SLURM knows of a job that has ended."""

    number: int
    end: str
    megabytes: int
    restarts: int


def _jobs(pack) -> list[Ended]:
    """Each SLURM job of a pack, in the order of their submission."""
    found = []
    for line in call("scontrol", "show", "job", "--oneliner").splitlines():
        values = dict(word.partition("=")[::2] for word in line.split())
        if values.get("Comment", "").endswith(pack.hash):
            megabytes = int(values["MinMemoryNode"].removesuffix("M"))
            found.append(Ended(int(values["JobId"]), values["JobState"], megabytes, int(values["Restarts"])))
    return sorted(found)


def _slurm_log(workflow, pack) -> str:
    """What SLURM and Snakemake said in a pack's jobs that failed."""
    return "".join(path.read_text() for path in workflow.folder.glob(f".snakemake/slurm_logs/*/*{pack.hash}/*.log"))


def _went_on(workflow, pack) -> bool:
    """Whether the job that finished a pack went on from a checkpoint."""
    log = workflow.folder / f"logs/train/demo-t5/{pack.method}/{pack.task}/{pack.regime}/{pack.hash}.log"
    return re.search(r"\bfrom step [1-9]", log.read_text()) is not None


def test_jobs_that_fail_in_every_way_end_in_the_tables_of_a_local_run(shared_workflow, local, packs):
    killed, canceled, late = packs["pt", "source"], packs["pt", "full"], packs["ept", "full"]
    preempted, needy = packs["pt", "k4"], packs["ept", "k4"]
    resources = {
        "runtime": f"attempt if wildcards.hash == '{late.hash}' else 20",
        "slurm_partition": f"'spare' if wildcards.hash == '{preempted.hash}' else 'main'",
        "mem_mb": f"300 if wildcards.hash == '{needy.hash}' and attempt == 1 else 1500",
    }
    options = ["--set-resources", *(f"train:{name}={value}" for name, value in resources.items())]
    faults = {
        killed.hash: kill,
        canceled.hash: cancel,
        late.hash: reach_the_time_limit,
        preempted.hash: preempt,
    }
    targets = ["results/main.csv", *(str(pack.folder / "runs.json") for pack in (preempted, needy))]
    snakemake = _start(shared_workflow, *targets, *options)
    said = _finish(shared_workflow, snakemake, faults)

    _equal_tables(shared_workflow, local, "main")
    assert "Submitted array job" in said
    assert [job.end for job in _jobs(killed)] == ["FAILED", "COMPLETED"]
    assert [job.end for job in _jobs(canceled)] == ["CANCELLED", "COMPLETED"]
    # Which of the two depends on whether the job has ended before its limit, warned by --signal.
    assert {job.end for job in _jobs(late)[:-1]} <= {"FAILED", "TIMEOUT"} and len(_jobs(late)) > 1
    assert [(job.end, job.restarts) for job in _jobs(preempted)] == [("COMPLETED", 1)]
    assert [(job.end, job.megabytes) for job in _jobs(needy)] == [("FAILED", 300), ("COMPLETED", 1500)]
    assert "exceeded memory limit" in _slurm_log(shared_workflow, needy)
    assert all(_went_on(shared_workflow, pack) for pack in (canceled, late, preempted))


def test_a_main_process_that_dies_is_started_again(shared_workflow, local, packs):
    left = packs["spot", "k4"]
    snakemake, training = _start(shared_workflow, "tables"), []

    def leave_alone(found):
        """The job stands still until another process has submitted its pack, too."""
        found.send(signal.SIGSTOP)
        training.append(found)
        snakemake.kill()

    strike(snakemake, shared_workflow.folder, {left.hash: leave_alone})
    assert snakemake.returncode == -signal.SIGKILL
    try:
        assert _start(shared_workflow, "--unlock").wait() == 0
        again = _start(shared_workflow, "tables")
        assert wait_for(lambda: len(_jobs(left)) == 2, seconds=180)
    finally:
        training[0].send(signal.SIGCONT)
    _finish(shared_workflow, again, faults={})

    # efficiency.csv holds times.
    tables = [name for name in Experiment(parse_configuration(VALUES)).default_tables if name != EFFICIENCY]
    assert len(tables) > 2
    _equal_tables(shared_workflow, local, *tables)
    # The job of the dead process went on; the second waited for it instead of training the same pack beside it.
    assert [job.end for job in _jobs(left)] == ["COMPLETED", "COMPLETED"]


def test_no_gpu_of_a_model_is_no_gpu(slurm):
    """What the plugin asks for where a site names a GPU model and the backbone trains on CPUs."""
    job = call("sbatch", "--parsable", "--gpus=a100:0", "--output=/dev/null", "--wrap=true")
    assert wait_for(lambda: "JobState=COMPLETED" in call("scontrol", "show", "job", job), seconds=60), job

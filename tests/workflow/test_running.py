"""`ept mend`, with which `make resume` begins, beside a workflow that still runs."""

import os
import subprocess
import sys
import time

VALUES = {"tasks": {"target": ["cb"]}, "methods": ["pt"], "few_shot": {"k": [4]}}
# In the place of `ept`: a job without end.
WAITS = f"""#!{sys.executable}
from pathlib import Path
import os, time
Path("job").write_text(str(os.getpid()))
time.sleep(60)
"""


def test_it_refuses_while_snakemake_lives_and_not_after_it_was_killed(workflow):
    config = workflow.configure(VALUES)
    programs = workflow.folder / "bin"
    programs.mkdir()
    (programs / "ept").write_text(WAITS)
    (programs / "ept").chmod(0o755)

    def mend():
        return subprocess.run(
            [sys.executable, "-m", "ept.cli", "mend", "--config", config],
            cwd=workflow.folder,
            capture_output=True,
            text=True,
        )

    assert mend().returncode == 0
    snakemake = workflow.start("all", config=config, programs=programs, output=subprocess.DEVNULL)
    job = workflow.folder / "job"
    try:
        while not (job.exists() and job.read_text()):
            assert snakemake.poll() is None
            time.sleep(0.1)
        locks = sorted((workflow.folder / ".snakemake/locks").iterdir())
        refused = mend()
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
        assert sorted((workflow.folder / ".snakemake/locks").iterdir()) == locks != []
        # Others may look at what there is to do.
        assert workflow.planned("all", config=config)["train"] == 2
        snakemake.kill()
        snakemake.wait()
        # A job without its workflow does not count: it holds what it works on itself.
        assert mend().returncode == 0
    finally:
        snakemake.kill()
        os.kill(int(job.read_text()), 9)

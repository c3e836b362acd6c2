"""What happens where SLURM cannot be had."""

import pytest

from slurm import single_node
from slurm.single_node import Unavailable

pytest_plugins = "pytester"

# Fails so often as the file `faults` has lines, then "installs" what tests look for.
APT = """\
#!/bin/sh
cd {folder}
echo "$1" >> calls
[ "$1" = install ] || exit 0
read -r fault < faults && {{ /usr/bin/sed -i 1d faults; echo "$fault" >&2; exit 100; }}
for program in slurmctld slurmd sbatch; do echo > $program; /bin/chmod +x $program; done
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """A machine with nothing but an apt-get; returns what it was asked for, given the faults of its mirror."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "apt-get").write_text(APT.format(folder=tmp_path))
    (tmp_path / "apt-get").chmod(0o755)

    def install(faults: list[str]) -> list[str]:
        (tmp_path / "faults").write_text("".join(f"{fault}\n" for fault in faults))
        single_node.install(pause_seconds=0)
        return (tmp_path / "calls").read_text().split()

    return install


def test_a_mirror_may_fail_twice(calls):
    assert calls(["503", "503"]) == ["update", "install"] * 3
    # Now it is there.
    assert calls([]) == ["update", "install"] * 3


def test_a_mirror_that_fails_always_is_named(calls):
    with pytest.raises(Unavailable, match="apt-get cannot install slurmctld, slurmd, slurm-client: no such host$"):
        calls(["timeout", "timeout", "no such host", "never asked"])


@pytest.mark.parametrize(("asked", "outcome"), [("1", "errors"), ("", "skipped")])
def test_a_slurm_that_was_asked_for_and_is_not_there_is_no_skip(pytester, monkeypatch, asked, outcome):
    def refuse(_):
        raise Unavailable("the mirror is down")

    monkeypatch.setattr(single_node.SingleNode, "__enter__", refuse)
    monkeypatch.setenv("EPT_TEST_SLURM", asked)
    pytester.makeconftest("from slurm.conftest import slurm")
    pytester.makepyfile("def test_jobs(slurm): pass")
    done = pytester.runpytest_inprocess("-rs")
    done.assert_outcomes(**{outcome: 1})
    done.stdout.fnmatch_lines(
        "*EPT_TEST_SLURM=1 asks for a SLURM, but the mirror is down" if asked else "*EPT_TEST_SLURM=1 lets this test*"
    )

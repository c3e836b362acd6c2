"""Runs the real workflow in a folder of its own."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import IO

import yaml


class Workflow:
    """The project's Snakefile, run in `folder` with a configuration of its own."""

    def __init__(self, project: Path, folder: Path):
        self.project, self.folder = project, folder

    def configure(self, values: dict, name: str = "test.yaml") -> Path:
        """Write a configuration file and return its path."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(values))
        return path

    def run(self, *arguments: str, config: Path | None, check: bool = True, profile: str | Path = "default") -> str:
        """Call snakemake and return what it printed.

        --configfile takes all words after it, so it comes last; without one it is config/config.yaml of the folder, or
        else of the project.
        """
        process = self.start(*arguments, config=config, profile=profile)
        output = process.communicate()[0]
        if check:
            assert process.returncode == 0, output[-4000:] + self._logs()
        return output

    def start(
        self,
        *arguments: str,
        config: Path | None,
        profile: str | Path = "default",
        output: IO | int = subprocess.PIPE,
        programs: Path | None = None,
    ) -> subprocess.Popen:
        """The same, without waiting for its end; what it prints goes into `output`.

        Programs in the folder `programs` come before those of the environment.
        """
        path = [*([programs] if programs else []), Path(sys.executable).parent, os.environ["PATH"]]
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--snakefile", self.project / "Snakefile", "--directory", self.folder]
            + ["--workflow-profile", self.project / "profiles" / profile, "--cores", "2", *arguments]
            + (["--configfile", config] if config else []),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": os.pathsep.join(map(str, path))},
            cwd=self.folder,
        )

    def planned(self, *targets: str, config: Path | None) -> Counter:
        """How many jobs of each rule a dry run would start."""
        text = self.run(*targets, "--dry-run", "--quiet", "rules", config=config)
        # The logger of the default profile prints blanks instead of underscores.
        rows = re.findall(r"^ ?(\w+(?: \w+)*) +(\d+) *$", text, re.M)
        return Counter({name.replace(" ", "_"): int(count) for name, count in rows if name != "total"})

    def explained(self, *targets: str, config: Path | None) -> str:
        """What a dry run prints with Snakemake's own logger: a block for each job, with its inputs and outputs."""
        profile = yaml.safe_load((self.project / "profiles/default/profile.yaml").read_text())
        folder = self.folder / "plain"
        folder.mkdir(exist_ok=True)
        (folder / "profile.yaml").write_text(
            yaml.safe_dump({key: value for key, value in profile.items() if key != "logger"})
        )
        return self.run(*targets, "--dry-run", config=config, profile=folder)

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("logs/**/*.log"), key=lambda path: path.stat().st_mtime)
        return "".join(f"\n== {path}\n{path.read_text()[-1500:]}" for path in logs[-3:])

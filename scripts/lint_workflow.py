"""Run `snakemake --lint` without its check that every rule names a container or a conda environment.

All rules run in the one environment that `make env` installs from the lock files. The Containerfile builds the same
environment as an image; no image is published, so there is none that a rule could name.
"""

from snakemake.cli import main
from snakemake.linting.rules import RuleLinter

del RuleLinter.lint_missing_software_definition
main(["--lint"])

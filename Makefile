# `make run` and `make test` work in a fresh clone; both make the environment first.
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: env run test test-long lint resume report push pull clean-room reference bench bench-full

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test,slurm,bench,remotes,gguf]'
	touch $@

# On a full disk not even the log of a job could say so. Nothing is removed here: jobs may still run.
OR_SAY_WHY = || { ept mend --config $(CONFIG) --look; exit 1; }

run: env
	snakemake --cores all all $(OR_SAY_WHY)
	snakemake --quiet all --report report.zip
	@ept show

test: env
	$(BIN)/python -m pytest -m "not long" --numprocesses auto --dist loadfile

test-long: env
	$(BIN)/python -m pytest -m long --numprocesses auto --dist loadfile

lint: env
	ruff check src tests benchmarks
	ruff format --check src tests benchmarks
	snakefmt --check Snakefile workflow
	snakemake --lint

# After a crash or a kill: remove what is not whole, unlock, and go on. CONFIG=config/paper.yaml for another run.
# `experiments` and `data` beside `all`, because Snakemake misses nothing that is behind a finished table.
CONFIG := config/config.yaml
resume: env
	ept mend --config $(CONFIG)
	snakemake --unlock --configfile $(CONFIG)
	snakemake --cores all all data experiments --configfile $(CONFIG) $(OR_SAY_WHY)
	snakemake --quiet all --report report.zip --configfile $(CONFIG)
	@ept show --config $(CONFIG)

# Of a finished run: unpack it and open report/report.html. CONFIG=… as above.
report: env
	snakemake --report report.zip --configfile $(CONFIG)

# Data, prompts and results to and from a remote (docs/dvc.md). DVC keeps no times, by which Snakemake knows what is old.
push: env
	ept push

pull: env
	ept pull
	snakemake all --touch --forceall --cores 1 --quiet all

# Everything made again in a clone without results, its tables compared with the recorded ones.
clean-room: env
	ept clean-room

# Schema and config/README.md from the typed settings.
reference: env
	ept reference

# Writes benchmarks/performance.{json,md,svg,png}; see benchmarks/plan.py.
bench: env
	$(BIN)/python -m benchmarks.run

bench-full: env
	$(BIN)/python -m benchmarks.run --full

# A picture in the README, of the embedded default.
docs/few_shot.svg: results/figures/few_shot.svg
	cp $< $@

# Another; needs Graphviz.
docs/rulegraph.svg: workflow/Snakefile $(wildcard workflow/rules/*.smk) | env
	snakemake all --rulegraph | dot -Grankdir=LR -Tsvg -o $@

# `make run` and `make test` work in a fresh clone; every command installs the environment first if it is missing.
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

# This checkout's sources, whatever PYTHONPATH says outside.
ifneq ($(wildcard src/ept/__init__.py),)
export PYTHONPATH := $(CURDIR)/src
endif

# The configuration of the targets below; CONFIG=config/paper.yaml for another one. Its name may have blanks and quotes.
CONFIG := config/config.yaml
QUOTED_CONFIG = '$(subst ','\'',$(CONFIG))'

.PHONY: env run resume report test test-long coverage lint structure docs documents dist lock \
	push pull clean-room reference bench bench-full gpu-check

# Snakemake keeps a cache in the home folder and ends with a traceback if it cannot write there.
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif

# ---- Environment -----------------------------------------------------------------------------------------------------

# cpu or cuda: the lock file in requirements/ that the environment is installed from (docs/installation.md).
TORCH := cpu
ifeq ($(TORCH),cuda)
INSTALLED := $(VENV)/.installed-cuda
else
INSTALLED := $(VENV)/.installed
endif

env: $(INSTALLED)

# The lock files are complete, so pip resolves nothing (--no-deps) and checks every file's hash. In the CPU environment
# only torch has no hash, because PyTorch builds it for CPUs and GPUs under one version.
$(VENV)/.installed: pyproject.toml requirements/cpu.txt requirements/torch.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --no-deps --require-hashes --requirement requirements/cpu.txt
	$(BIN)/pip install --requirement requirements/torch.txt
	$(BIN)/pip install --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	touch $@

$(VENV)/.installed-cuda: pyproject.toml requirements/cuda.txt
	python3 -m venv $(VENV)
	$(BIN)/pip uninstall --yes torch
	$(BIN)/pip install --no-deps --require-hashes --requirement requirements/cuda.txt
	$(BIN)/pip install --no-deps --no-build-isolation --editable .
	$(BIN)/pip check
	touch $(VENV)/.installed $@

# What the tests of DVC remotes on S3 and SSH need in addition.
$(VENV)/.installed-remotes: $(INSTALLED) requirements/remotes.txt
	$(BIN)/pip install --no-deps --require-hashes --requirement requirements/remotes.txt
	$(BIN)/pip check
	touch $@

# Resolve the lock files again. Pinned versions stay where they fit; LOCK_OPTIONS=--upgrade takes the newest ones.
LOCK_OPTIONS :=
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(LOCK_OPTIONS)
LOCKED_EXTRAS := data workflow quantized lora report gguf serve test lint docs release

lock: env
	$(LOCK) pyproject.toml $(LOCKED_EXTRAS:%=--extra %) --output-file requirements/cuda.txt
	$(LOCK) pyproject.toml $(LOCKED_EXTRAS:%=--extra %) --constraint requirements/cuda.txt \
		$$(sed -nE 's/^(torch|triton|cuda-[a-z-]+|nvidia-[a-z0-9-]+)==.*/--no-emit-package \1/p' requirements/cuda.txt) \
		--output-file requirements/cpu.txt
	$(LOCK) --group test-remotes --constraint requirements/cuda.txt \
		$$(sed -nE 's/^([a-z0-9-]+)==.*/--no-emit-package \1/p' requirements/cuda.txt) \
		--output-file requirements/remotes.txt
	{ echo "# The torch of cuda.txt, without hashes. Written by make lock."; \
		sed -nE 's/^(torch==[^ ;]+).*/\1/p' requirements/cuda.txt; } > requirements/torch.txt

# ---- The workflow ----------------------------------------------------------------------------------------------------

# On a full disk not even the log of a job can say so. --look removes nothing: jobs may still run.
OR_SAY_WHY = || { ept mend --config $(QUOTED_CONFIG) --look; exit 1; }

# The report lies in the configuration's output folder. The default profile's logger would name every file of it.
REPORT = snakemake --workflow-profile none --cores 1 --rerun-incomplete --quiet all \
	--report "$$(ept show --config $(QUOTED_CONFIG) --folder)/report.zip" --configfile $(QUOTED_CONFIG)

# The main table comes first. The profile's logger prints it as soon as it is made.
FIRST = --prioritize "$$(ept show --config $(QUOTED_CONFIG) --folder)/main.csv"

run: env
	snakemake --cores all all $(FIRST) --configfile $(QUOTED_CONFIG) $(OR_SAY_WHY)
	@$(REPORT)
	@ept show --config $(QUOTED_CONFIG)

# After a crash or a kill: remove damaged files, unlock and continue. It refuses to start while a workflow runs here.
# `experiments` and `data` are named besides `all` because Snakemake does not look for files behind a finished table.
resume: env
	ept mend --config $(QUOTED_CONFIG)
	snakemake --unlock --configfile $(QUOTED_CONFIG)
	snakemake --cores all all data experiments $(FIRST) --configfile $(QUOTED_CONFIG) $(OR_SAY_WHY)
	@$(REPORT)
	@ept show --config $(QUOTED_CONFIG)

# Of a finished run: unpack <output>/report.zip and open report/report.html.
report: env
	@$(REPORT)

# Data, prompts and results to and from a DVC remote (docs/dvc.md). DVC does not keep the modification times that
# Snakemake compares, so everything that was pulled is touched in order.
push: env
	dvc push

pull: env
	dvc pull
	snakemake all --touch --forceall --cores 1 --quiet all

# Rebuild everything in a clone of the last commit and compare its tables with the recorded ones, byte for byte.
# efficiency.csv holds times and is left out. If a table differs, the clone stays for inspection.
RESULTS := results
clean-room: env
	@test -e $(RESULTS)/main.csv || { echo "$(RESULTS)/main.csv is missing: run make run or make pull first"; exit 1; }
	@git diff --quiet HEAD -- . ':!dvc.lock' || { echo "commit your changes first: only commits are rebuilt"; exit 1; }
	@set -e; room=$$(mktemp -d); git clone --quiet . "$$room"; \
	(cd "$$room"; PYTHONPATH="$$room/src" snakemake --cores all all); \
	for table in $(filter-out %/efficiency.csv,$(wildcard $(RESULTS)/*.csv)) $(RESULTS)/summary.json; do \
		cmp $$table "$$room/$$table" || differs=yes; \
	done; \
	test -z "$$differs" || { echo "the rebuilt tables differ; the clone is $$room"; exit 1; }; \
	rm -rf "$$room"; echo "all rebuilt tables are identical"

# ---- Checks ----------------------------------------------------------------------------------------------------------

PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist loadfile

test: env
	$(PYTEST) -m "not long"

test-long: env $(VENV)/.installed-remotes
	$(PYTEST) -m long

# `make test` with the share of src that it runs; coverage.xml is for services that read it.
coverage: env
	$(PYTEST) -m "not long" --cov --cov-report term:skip-covered --cov-report xml

lint: env
	ruff check
	ruff format --check
	mypy
	lint-imports
	snakefmt --check Snakefile workflow
	$(BIN)/python scripts/lint_workflow.py

# Sizes of the source files, import circles, imports against the direction; fails where a limit is exceeded.
structure: env
	$(BIN)/python scripts/structure.py

# ---- Documents and releases ------------------------------------------------------------------------------------------

docs: env
	$(BIN)/python -m sphinx -W --keep-going -b html docs site

# The generated parts of README.md and docs/: tables of tasks, parameters, costs, results and speed.
documents: env
	$(BIN)/python scripts/fill_documents.py

# The wheel and the source archive, in dist/.
dist: env
	$(BIN)/python -m build --no-isolation

# Write the configuration's schema and config/README.md from the typed settings.
reference: env
	ept reference

# Write benchmarks/performance.{json,md,svg,png} (see benchmarks/plan.py) and serving.{json,md}.
bench: env
	$(BIN)/python -m benchmarks.run

bench-full: env
	$(BIN)/python -m benchmarks.run --full

# On a machine with a GPU, at most 8 minutes: the same gradients as on a CPU, determinism, memory, rates; writes
# gpu_check.json after each part.
gpu-check: env
	$(BIN)/python -m benchmarks.gpu_check

# The picture in the README, from the embedded default.
docs/few_shot.svg: results/figures/few_shot.svg
	cp $< $@

docs/method.svg: scripts/draw_method.py | env
	$(BIN)/python scripts/draw_method.py

# Needs Graphviz.
docs/rulegraph.svg: workflow/Snakefile $(wildcard workflow/rules/*.smk) | env
	snakemake all --rulegraph | dot -Grankdir=LR -Tsvg -o $@

# Every target runs on a fresh machine and sets up what it needs. `make` alone lists them.
SUITE  ?= quick
ROOT   ?= runs
DATA   ?= data
PYTHON ?= python3
KILLS  ?= 100
CLUSTER ?= slurm
GPU_PYTHON  = $(if $(filter none,$(VENV)),$(PYTHON),.venv/bin/python)
GPU_PRESETS = uvit-s-2 uvit-s-4 unet-iddpm-cifar10 uvit-l-4
BENCH   = .venv/bin/python -m bench
# $(call Q,ROOT): a variable as one word of the shell, whatever it holds.
Q       = '$(subst ','\'',$($1))'
FAST    = tests/bench/planning/test_suite.py tests/bench/planning/test_plan.py tests/bench/runs tests/bench/diffusion tests/reports/records tests/reports/analysis

.PHONY: gpu help setup reproduce score smoke check test ui perf lock latent calibrate tables chaos sweep test-slurm

help:       ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 14

setup: .venv/ready  ## create .venv from the hashed lock file

# The file `ready` is written last: an interrupted installation is done again.
.venv/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "skipbench needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

latent: .venv/latent  ## add the optional extra: autoencoder and text encoder, to prepare coco256

.venv/latent: .venv/ready requirements-latent.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-latent.lock
	@touch $@

reproduce: setup  ## train SUITE (quick) and write its report; the same command resumes
	$(BENCH) run $(call Q,SUITE) --root $(call Q,ROOT) --data $(call Q,DATA)
	$(BENCH) report $(call Q,SUITE) --root $(call Q,ROOT)
	$(BENCH) sync $(call Q,SUITE) --root $(call Q,ROOT)

score: setup  ## train METHOD='halved(factor=0.7)' beside SUITE (quick), and say its verdict
	$(BENCH) run $(call Q,SUITE) --arm $(call Q,METHOD) --root $(call Q,ROOT) --data $(call Q,DATA)

smoke:      ## the same for the suite smoke, in two minutes
	@$(MAKE) --no-print-directory reproduce SUITE=smoke

check: setup  ## format, lint, types and the fast tests: about a minute
	.venv/bin/ruff format --check --quiet .
	.venv/bin/ruff check --quiet .
	.venv/bin/mypy
	.venv/bin/python -m pytest $(FAST)

test: setup latent  ## run the tests, all but those of tests/slurm: about 12 minutes
	.venv/bin/python -m pytest
	@echo "tests/slurm (a real cluster on this machine) is left out: make test-slurm installs what it needs, as root, and runs it"

sweep: setup  ## submit SUITE to CLUSTER (slurm), with FLAGS="--partition gpu --gpus-per-node 1"; the same command again submits what is missing
	$(BENCH) submit $(call Q,SUITE) --cluster $(CLUSTER) --root $(call Q,ROOT) --data $(call Q,DATA) $(FLAGS)

test-slurm: setup  ## install a SLURM of Debian's packages (as root) and run tests/slurm on a throwaway cluster
	tests/slurm/install
	.venv/bin/python -m pytest tests/slurm -o faulthandler_timeout=1800

# Speeds are printed whatever the tests say; the exit code is that of whatever failed first. 124: a preset's time was over.
gpu: $(if $(filter none,$(VENV)),,setup)  ## tests and speeds that need a GPU; VENV=none takes PYTHON as it is, without .venv
	@$(GPU_PYTHON) -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))' || { echo "$(GPU_PYTHON) has no torch: name another with PYTHON="; exit 2; }; \
	if ! $(GPU_PYTHON) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then echo "no GPU is visible here: tests/gpu is left out"; exit 0; fi; \
	code=0; timeout 300 $(GPU_PYTHON) -m pytest tests/gpu -n 0 -s -o faulthandler_timeout=200 || code=$$?; \
	for preset in $(GPU_PRESETS); do timeout 45 $(GPU_PYTHON) -m bench perf --device cuda --preset $$preset --batch 64 --steps 5 --choice bf16 --choice "bf16 compiled"; \
	found=$$?; [ $$found = 124 ] && echo "$$preset: cut after 45 s"; [ $$found = 0 ] || [ $$found = 124 ] || code=$$found; done; exit $$code

ui: setup   ## open MLflow on what is synced, on this machine only
	$(BENCH) ui --root $(call Q,ROOT)

perf: setup  ## training throughput and overhead, as ratios in one process
	$(BENCH) perf --data $(call Q,DATA)

chaos: setup  ## kill runs at 100 random instants, warn them at 50, and compare them with undisturbed ones, bit for bit
	.venv/bin/python -m tests.tools.chaos --kills $(KILLS)

calibrate: setup  ## simulate suites: are intervals and verdicts what they say? writes docs/calibration.md
	.venv/bin/python -m reports.calibration --out docs/calibration.md

tables: setup  ## renew the result tables of README and docs, from ROOT where a sweep is complete, else from the reference
	.venv/bin/python -m reports.report.embed --root $(call Q,ROOT) README.md docs/*.md

lock:       ## renew both lock files (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes requirements.in -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --constraint requirements.lock requirements-latent.in -o requirements-latent.lock

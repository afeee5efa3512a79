# Every target does its own set-up, in a virtual environment in this folder.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo browser test test-training test-fast test-cluster fuzz torture reliability coverage lint types docs bench wheel clean

demo: $(VENV)/.runtime  ## find edited copies among the package's photos; no GPU, no torch
	$(BIN)/isc-fast demo -o demo-out

# In processes of their own: with TensorRT, DALI and OpenVINO in the same process, torch.compile once crashed in the C library.
# Nothing that users run has them together. These tests use one thread each, so they run beside each other too.
TRAINING := tests/training/test_training.py

BESIDE := -n logical --maxprocesses 4 --dist worksteal

# PyPI has no browser, and tests of pages want one. Where this may install packages it does; elsewhere those tests are skipped, and
# say why.
browser:
	@command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null || { \
		command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	} || echo "no browser: the tests of pages are skipped; install Chromium to run them"

test: $(VENV)/.dev browser lint  ## lint, types and every test
	$(MAKE) --jobs=2 --output-sync types test-training
	$(BIN)/python -m pytest $(BESIDE) $(TRAINING:%=--ignore=%)

# mypy has one thread, so these run beside it.
test-training: $(VENV)/.dev
	$(BIN)/python -m pytest $(BESIDE) $(TRAINING)

# The same in every environment: torch and its friends are out of reach even where they are installed.
test-fast: $(VENV)/.fast lint  ## lint and the tests that need no torch and are not slow, in a few minutes
	$(BIN)/python -m pytest $(BESIDE) --fast

# The 781 fast tests of three rooms reach 48 % of all lines and branches, training and export among them, and 81 % of their own rooms,
# which keep what people have on disk: `pytest --fast --cov tests/descriptors tests/files tests/evaluation`. All tests reach at least
# what some of them do, so less is a loss. Raise both to what the whole suite gives on a quiet machine.
FLOOR ?= 48
ROOMS_FLOOR ?= 81
ROOMS := isc_fast/descriptors/*,isc_fast/files/*,isc_fast/evaluation/*
coverage: $(VENV)/.dev  ## every test with its coverage; the report is build/coverage/index.html
	$(BIN)/coverage erase
	$(BIN)/python -m pytest --cov --cov-report= $(BESIDE) $(TRAINING)
	$(BIN)/python -m pytest --cov --cov-append --cov-report= $(BESIDE) $(TRAINING:%=--ignore=%)
	$(BIN)/coverage html -q -d build/coverage
	$(BIN)/coverage report --include='$(ROOMS)' --skip-covered --fail-under=$(ROOMS_FLOOR)
	$(BIN)/coverage report --skip-covered --fail-under=$(FLOOR)

# The long form of tests/torture: some twenty injuries a round, each a few runs of the command line.
torture: $(VENV)/.dev  ## injure real runs at random moments, and compare thousands of picture files with what was written
	$(BIN)/python tests/torture/torture.py --rounds 20
	$(BIN)/python tests/torture/formats.py

# Everything whose figures docs/reliability.md shows, in about an hour and a half on two cores.
reliability: torture fuzz  ## the long forms of injuries, picture files, damage, fuzzing and soaking
	$(BIN)/python -m pytest -q tests/runs/checks/test_damage.py --injuries 300
	$(BIN)/python bench/soak.py --minutes 8 --images 2000000

# The long forms of tests/extraction/test_ray.py and test_mixes.py (a head and two nodes in a network of its own), and of
# tests/stores and tests/sources/test_remote.py. Azure's emulator is a program of Node.js, 190 MB; without npm its tests are skipped and say so.
AZURITE := build/azurite
test-cluster: $(VENV)/.dev  ## injure a real Ray cluster and real servers of buckets while they are used, and compare bytes
	$(PIP) $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['cluster'])")
	@command -v npm >/dev/null && npm install --silent --no-fund --no-audit --prefix $(AZURITE) azurite@3 || \
		echo "no npm: the tests of Azure's buckets are skipped; install Node.js to run them"
	$(BIN)/python -m pytest -q tests/stores/test_azure_and_google.py
	$(BIN)/python tests/cluster/cluster.py
	$(BIN)/python tests/cluster/stores.py
	$(BIN)/python tests/cluster/any_mix.py

# Old versions of pip do not know dependency groups. Most of an hour: some forty readers, a minute each.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/.dev  ## fuzz every reader of a file for FUZZ_SECONDS, guided by coverage
	$(PIP) $$($(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['fuzz'])")
	$(BIN)/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

lint: $(VENV)/.fast
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not know that training/ and export/ are installed inside isc_fast: it is shown a folder where they are.
types: $(VENV)/.dev
	@rm -rf build/types/isc_fast && mkdir -p build/types/isc_fast
	@ln -s $(CURDIR)/isc_fast/* $(CURDIR)/training $(CURDIR)/export build/types/isc_fast/
	cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --python-executable $(abspath $(BIN))/python

docs: $(VENV)/.docs  ## build/docs/index.html; docs/cli.md is written from the parser, and every warning is an error
	$(BIN)/python docs/make_cli.py
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs

# In about ten minutes: fewer rounds than the README's figures have.
bench: $(VENV)/.dev  ## everything a processor does, side by side with the reference way and with the machine's limits
	$(BIN)/python bench/decode.py
	$(BIN)/python bench/search.py
	$(BIN)/python bench/normalize.py --negatives 20000 --smoothed 100000 --rounds 2
	$(BIN)/python bench/peers.py --rounds 2
	$(BIN)/python bench/precision.py --images 16 --rounds 2
	$(BIN)/python bench/engine.py --rounds 2
	$(BIN)/python bench/pipeline.py --rounds 2 --images 8 --batches 1 4

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel --outdir dist .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"isc-fast needs Python 3.11 or newer, and $(PYTHON) is {v[0]}.{v[1]}; name another one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[cpu]'
	@touch $@

$(VENV)/.fast: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[cpu,parquet,remote,dev]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[cpu,openvino,rtx,dali,export,train,parquet,ray,remote,docs,dev]'
	@touch $@ $(VENV)/.runtime $(VENV)/.fast $(VENV)/.docs

clean:
	rm -rf $(VENV) build dist demo-out *.egg-info .mypy_cache .ruff_cache .pytest_cache .coverage*

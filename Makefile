# The same targets serve people and CI. Nothing is installed outside of .venv, but by chromium and test-image, which say so.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := batch boss detection local_boss pipelines pymeda
PINNED := requirements.txt requirements-dev.txt requirements-tools.txt container/build-requirements.txt
# the registry of PyPI itself; where it cannot be reached, for example -s osv --osv-url=URL
AUDIT_SERVICE ?= -s pypi
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
LOCK := $(VENV)/tools/bin/uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header

.PHONY: demo test chromium test-image test-slow audit fuzz check format bench lock clean help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.runtime: requirements.txt container/build-requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# intern has no wheel: what builds it is pinned as well
	$(PIP) -r container/build-requirements.txt
	$(PIP) --no-build-isolation -r requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	$(PIP) -r requirements-dev.txt
	touch $@

demo: $(VENV)/.dev  ## run the main job on the embedded BOSS with a synthetic sample
	$(BIN)/python -m local_boss.demo

test: $(VENV)/.dev  ## run the tests that take less than ten minutes together
	$(BIN)/python -m pytest -n 2 --dist loadscope

chromium:  ## install the browser in which a slow test opens the report, where there is none
	command -v chromium || command -v google-chrome || { $(ROOT) apt-get update && $(ROOT) apt-get install --yes --no-install-recommends chromium; }

test-slow: $(VENV)/.dev  ## run the slow tests
	$(BIN)/python -m pytest -m slow

test-image: $(VENV)/.dev  ## build the container image and test it; installs a Docker engine where there is none
	tests/image/engine nd-synapse:test
	ND_SYNAPSE_IMAGE=nd-synapse:test $(BIN)/python -m pytest tests/image -m ""

$(VENV)/tools/.made: requirements-tools.txt
	$(PYTHON) -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.txt
	touch $@

audit: $(VENV)/tools/.made  ## look all pinned packages up among known vulnerabilities; asks AUDIT_SERVICE
	failed=0; for list in $(PINNED); do echo "$$list:"; \
		$(VENV)/tools/bin/pip-audit $(AUDIT_SERVICE) --strict --progress-spinner off --disable-pip -r $$list || failed=1; \
	done; exit $$failed

fuzz: $(VENV)/.dev  ## feed 100,000 wrong and odd inputs to everything that takes input
	$(BIN)/python -m tests.fuzz --cases 100000

check: $(VENV)/.dev  ## formatting, lint, types, docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(wildcard *.py) $(PACKAGES)
	$(BIN)/numpydoc lint $(shell git ls-files '*.py' | grep -vE '^(tests|benchmarks)/')

format: $(VENV)/.dev  ## apply the formatter and the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## measure; prints its figures and the command of each
	$(BIN)/python -m benchmarks

lock: $(VENV)/tools/.made  ## pin requirements*.txt anew from requirements*.in
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) requirements-dev.in -o requirements-dev.txt
	$(LOCK) requirements-tools.in -o requirements-tools.txt

clean:  ## remove the virtual environment and what runs left
	rm -rf $(VENV) demo results

# The same targets serve people and CI. Nothing is installed outside of .venv, but by chromium, slurm and test-image, which say so.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PINNED := requirements.txt requirements-demo.txt requirements-dev.txt requirements-build.txt requirements-tools.txt requirements-docs.txt
# the registry of PyPI itself; where it cannot be reached, for example -s osv --osv-url=URL
AUDIT_SERVICE ?= -s pypi
ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
UV := $(VENV)/tools/bin/uv pip compile -q --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-index-url --no-header
# to see which lines the tests reach, which takes a third longer: --cov --cov-report=term:skip-covered
COVERAGE ?=

.PHONY: demo test chromium peers slurm test-image test-slow test-wheel wheel audit fuzz check format bench lock docs release clean help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.runtime: requirements.txt requirements-build.txt pyproject.toml
	@echo "Installing what a run needs into $(VENV): half a gigabyte, in a minute or two."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements-build.txt
	@echo "Installing the libraries ..."
	@$(PIP) --require-hashes --no-build-isolation -r requirements.txt
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.demo: requirements-demo.txt $(VENV)/.runtime
	@echo "Installing an S3 server for the demonstration ..."
	@$(PIP) --require-hashes -r requirements-demo.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing what tests and checks need ..."
	@$(PIP) --require-hashes -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.demo  ## run the main job on the embedded BOSS with a synthetic sample
	$(BIN)/nd-synapse demo

test: $(VENV)/.dev  ## run the everyday tests: some eight minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadscope $(COVERAGE)

chromium:  ## install the browser in which a slow test opens the report, where there is none
	command -v chromium || command -v google-chrome || { $(ROOT) apt-get update && $(ROOT) apt-get install --yes --no-install-recommends chromium; }

slurm:  ## install the scheduler in which a slow test runs a job in parts, where there is none
	command -v slurmctld || $(ROOT) sh -c 'apt-get update && apt-get install --yes --no-install-recommends slurm-wlm munge'

$(VENV)/peers/.made: requirements-peers.txt
	$(PYTHON) -m venv $(VENV)/peers
	$(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-peers.txt
	touch $@

peers: $(VENV)/peers/.made  ## install programs of others, for the slow tests and the measurements

test-slow: $(VENV)/.dev $(VENV)/peers/.made  ## run the slow tests
	$(BIN)/python -m pytest -m slow -n 2 --dist loadscope

wheel: $(VENV)/.runtime  ## build dist/*.whl
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --wheel-dir dist .

test-wheel: wheel  ## install the wheel into a fresh environment, and run the demonstration in an empty folder
	rm -rf $(VENV)/wheel && $(PYTHON) -m venv $(VENV)/wheel
	$(VENV)/wheel/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-build.txt
	$(VENV)/wheel/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-build-isolation -r requirements.txt
	$(VENV)/wheel/bin/python -m pip install --quiet --disable-pip-version-check --no-deps dist/*.whl
	rm -rf $(VENV)/empty && mkdir $(VENV)/empty
	cd $(VENV)/empty && ../wheel/bin/nd-synapse pipelines && ../wheel/bin/nd-synapse demo

test-image: $(VENV)/.dev  ## build the container image and test it; installs a Docker engine where there is none
	tests/image/engine nd-synapse:test
	ND_SYNAPSE_IMAGE=nd-synapse:test $(BIN)/python -m pytest tests/image -m "" -n 2 --dist loadscope

$(VENV)/tools/.made: requirements-tools.txt
	$(PYTHON) -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-tools.txt
	touch $@

audit: $(VENV)/tools/.made  ## look all pinned packages up among known vulnerabilities; asks AUDIT_SERVICE
	failed=0; for list in $(PINNED); do echo "$$list:"; \
		$(VENV)/tools/bin/pip-audit $(AUDIT_SERVICE) --strict --progress-spinner off --disable-pip -r $$list || failed=1; \
	done; exit $$failed

fuzz: $(VENV)/.dev  ## feed many wrong and odd inputs to everything that takes input
	$(BIN)/python -m pytest -q tests/fuzz --hypothesis-profile=long --timeout=3600

check: $(VENV)/.dev  ## formatting, lint, types, imports between the rooms, docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports --no-cache
	$(BIN)/numpydoc lint *.py nd_synapse/pipeline/contract.py nd_synapse/errors.py nd_synapse/geometry.py

format: $(VENV)/.dev  ## apply the formatter and the safe lint fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev $(VENV)/peers/.made  ## measure all, or PART=peers; prints its figures and the command of each
	$(BIN)/python -m benchmarks $(PART)

lock: $(VENV)/tools/.made  ## pin requirements*.txt anew from pyproject.toml and requirements*.in
	$(UV) pyproject.toml -o requirements.txt
	$(UV) requirements-build.in -o requirements-build.txt
	$(UV) requirements-demo.in -o requirements-demo.txt
	$(UV) requirements-dev.in -o requirements-dev.txt
	$(UV) requirements-tools.in -o requirements-tools.txt
	$(subst 3.11,3.11.1,$(UV)) requirements-peers.in -o requirements-peers.txt  # ome-zarr takes no 3.11.0
	$(UV) requirements-docs.in -o requirements-docs.txt

$(VENV)/docs/.made: requirements-docs.txt $(VENV)/.runtime
	$(PYTHON) -m venv $(VENV)/docs
	$(VENV)/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	@# the package and what it needs are in the environment around this one
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
		> $$($(VENV)/docs/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/around.pth
	touch $@

release: wheel $(VENV)/tools/.made $(VENV)/.dev  ## build and check what is published: wheel, sdist, SBOM, image, on every Python that is here
	.ci/release

site/.reports: tests/gallery.py $(wildcard pipelines/*.py nd_synapse/report/*) | $(VENV)/.runtime
	@echo "Running every pipeline for the gallery, a minute or two ..."
	@$(BIN)/python -m tests.gallery site/extra/reports
	@touch $@

docs: $(VENV)/docs/.made site/.reports  ## build the site into site/html, without a warning, and check its links
	$(VENV)/docs/bin/python -m sphinx -q -W --keep-going -b html -d site/doctrees docs site/html
	$(BIN)/python -m tests.site_links site/html

clean:  ## remove the virtual environment and what runs left
	rm -rf $(VENV) demo dist results site

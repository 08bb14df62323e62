# Two commands: `make run` shows the server at work, `make test` checks it. Everything they need goes into .venv.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# One more than there are processors: tests of servers and peers mostly wait.
WORKERS ?= $(shell expr $$(nproc) + 1)
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS)
# Each worker would compile every test and each server itself, where the environment keeps Python from writing it down.
unexport PYTHONDONTWRITEBYTECODE
# A file is one worker's, so that its servers and peers start once; the longest come first (tests/support/scheduling.py).
BY_FILE := --dist loadfile --no-loadscope-reorder
# Helm of this machine, else built from its module; tests/peers/test_chart.py names the same version.
HELM ?= $(or $(shell command -v helm),go run helm.sh/helm/v3/cmd/helm@v3.18.6)
# How long `make fuzz` searches each of its targets.
SECONDS ?= 20
INSTALLED := $(VENV)/.installed

.PHONY: check fast test long bad-days fuzz coverage run bench build sbom lock audit format lint types docs notebooks screenshots clean
.DEFAULT_GOAL := check

check: lint types test

$(INSTALLED): pyproject.toml setup.py
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing; install Python 3.11 or later, or say make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV); this takes about half a minute, once"
	@$(PYTHON) -m venv $(VENV) || { echo "make: $(PYTHON) cannot make virtual environments; install its venv package (Debian: python3-venv)"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,web,test]'
	@touch $@

fast: $(INSTALLED)
	$(PYTEST) --dist worksteal -m 'not long' tests/unit tests/contract

test: $(INSTALLED)
	$(PYTEST) $(BY_FILE) -m 'not long'

long: $(INSTALLED)
	$(PYTEST) $(BY_FILE) -m 'long and not bad_day'

bad-days: $(INSTALLED)
	$(PYTEST) --dist worksteal -m bad_day $(AGAIN)

fuzz: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]' \
		|| echo "make: atheris cannot be installed here; Hypothesis searches alone"
	$(PYTEST) -m long tests/laws/test_fuzz.py tests/laws/test_http_oracle.py
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

coverage: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest; status=$$?; $(BIN)/coverage combine --quiet && $(BIN)/coverage report; exit $$status

build: $(INSTALLED)
	$(BIN)/python -m build
	$(HELM) package deploy/helm --destination dist
	$(MAKE) sbom

sbom: $(INSTALLED)
	$(BIN)/python deploy/image/sbom.py dist/sbom.cdx.json

# AUDIT: more words for pip-audit, such as --vulnerability-service osv.
audit: $(INSTALLED)
	@$(BIN)/python deploy/image/audit.py $(AUDIT)

lock: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/image/lock.sh

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

run: $(INSTALLED)
	@$(BIN)/metrics-server simulate --serve

# ONLY: parts of the benchmarks, such as make bench ONLY="sqlite peers"; without it all but the peers.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks $(addprefix --only ,$(ONLY))

notebooks: $(INSTALLED)
	$(BIN)/python notebooks/build.py

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py
	$(BIN)/python -m deploy.dashboards.builder
	$(BIN)/python -m deploy.dashboards.builder.compose
	$(BIN)/python deploy/components/prometheus_operator.py

screenshots: $(INSTALLED)
	$(BIN)/python -m docs.screenshots

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz

# Every target first does what it needs, and nothing twice: an environment is installed again only
# when pyproject.toml or constraints.txt changed. `make` alone lists the targets.

# Left empty: the first of CANDIDATES that is new enough. `make install PYTHON=python3.12` names one.
PYTHON ?=
CANDIDATES := python3 python3.13 python3.12 python3.11

VENV := .venv
VENV_TPU := .venv-tpu

# The full-size configs that are shipped. churches, landscapes and the satellite sets are this very
# step on other images (tests/test_configs.py), and one compilation takes minutes.
POD_CONFIGS := configs/cips.py
POD_TOPOLOGY ?= v5e:4x4

DEMO_DIR ?= runs/cips-demo
PYTEST_ARGS ?=
SMOKE_PYTHONS := python3.11 python3.12 python3.13

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint format pod-check smoke-pythons

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' Makefile

install: $(VENV)/.installed  ## the pinned dependencies, into .venv (PYTHON=... chooses the Python)

demo: install  ## train CIPS on photographs, 8 minutes on 2 cores
	@$(VENV)/bin/python -m jaxgen.train --config=configs/cips.py:demo --workdir=$(DEMO_DIR)

test: install  ## all tests, on two cores (PYTEST_ARGS='tests/ops -x' for some)
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: install  ## what ruff finds; changes nothing
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

format: install  ## let ruff repair and format the code
	@$(VENV)/bin/ruff check --fix-only .
	@$(VENV)/bin/ruff format .

pod-check: $(VENV_TPU)/.installed  ## compile the full-size configs for a TPU slice; needs no TPU
	@failed=; for config in $(POD_CONFIGS); do \
	  echo "$$config on $(POD_TOPOLOGY)"; \
	  $(VENV_TPU)/bin/python -m jaxgen.compile --config=$$config --topology=$(POD_TOPOLOGY) \
	    || failed="$$failed $$config"; \
	done; \
	if [ -n "$$failed" ]; then echo "pod-check failed for$$failed" >&2; exit 1; fi

smoke-pythons: $(addprefix smoke-,$(SMOKE_PYTHONS))  ## install and try each Python that is supported

.PRECIOUS: .venv-python3.%/.installed
smoke-python3.%: .venv-python3.%/.installed
	@.venv-python3.$*/bin/python tests/smoke/installed.py

# $(call environment,FOLDER,PYTHONS,EXTRAS): make FOLDER with the first of PYTHONS that is new
# enough, unless a good one is there, and install this project with EXTRAS into it, pinned. The pins
# hold for building too; old and new versions of pip read them from different variables.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
define environment
	@if ! $(1)/bin/python -c 'import pip; $(NEW_ENOUGH)' >/dev/null 2>&1; then \
	  python=; for candidate in $(2); do \
	    if $$candidate -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "jaxgen needs Python 3.11 or newer; tried: $(strip $(2)). Install one, or say where it" \
	      "is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; \
	  fi; \
	  echo "Making $(1) with $$($$python --version)"; \
	  $$python -m venv --clear $(1) || { \
	    echo "$$python cannot make a virtual environment. On Debian and Ubuntu the package" \
	      "python3-venv is missing." >&2; exit 1; }; \
	fi
	@echo "Installing the pinned dependencies into $(1) (a minute or two)"
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_USE_PEP517=1 \
	  PIP_DISABLE_PIP_VERSION_CHECK=1 $(1)/bin/python -m pip install -qq --no-compile -e '.$(3)'
	@touch $@
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call environment,$(VENV),$(or $(PYTHON),$(CANDIDATES)),[test])

$(VENV_TPU)/.installed: pyproject.toml constraints.txt
	$(call environment,$(VENV_TPU),$(or $(PYTHON),$(CANDIDATES)),[tpu])

# No extras: what is missing from the project's own dependencies shows here. pyenv's are found too.
.venv-python3.%/.installed: pyproject.toml constraints.txt
	$(call environment,.venv-python3.$*,python3.$* \
	  $(wildcard $(HOME)/.pyenv/versions/3.$*.*/bin/python),)

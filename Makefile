# Each command does its own set-up in .venv; nothing else needs to be installed.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
LISTEN ?= 127.0.0.1:8080

.PHONY: demo run test test-real check format bench clean

demo: .venv/.demo  ## the main job, on a real llama.cpp server
	$(BIN)/remora demo

run: .venv/.core  ## make run UPSTREAM=http://127.0.0.1:8000 [LISTEN=0.0.0.0:8080]
	@test -n "$(UPSTREAM)" || { echo 'usage: make run UPSTREAM=http://HOST:PORT [LISTEN=ADDR:PORT]'; exit 2; }
	$(BIN)/remora serve --upstream $(UPSTREAM) --listen $(LISTEN)

test: .venv/.test  ## everything that must hold, in under ten minutes
	$(BIN)/python -m pytest $(ARGS)

test-real: .venv/.test  ## real servers and clients, each in an environment of its own
	$(BIN)/python -m pytest -o addopts= -q tests/real $(ARGS)

check: .venv/.dev  ## lint, format, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/.test  ## side by side with nginx, haproxy, Varnish and a naive proxy; what layers add
	$(BIN)/python -m tests.bench $(ARGS)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo 'remora needs Python 3.11 or newer on PATH'; exit 2; }
	$(PYTHON) -m venv .venv

# One stamp per extra: an edit of pyproject.toml installs again, nothing else does.
.venv/.core: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@
.venv/.demo: pyproject.toml | .venv/bin/python
	@echo 'setting up .venv: remora, llama.cpp, the openai client'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo]' || { \
		echo 'no llama.cpp wheel for this machine: the demo will use its stand-in server'; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . openai; }
	@touch $@
.venv/.test: pyproject.toml | .venv/bin/python
	@echo 'setting up .venv: remora, its tests, llama.cpp'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,demo]'
	@$(BIN)/python -m tests.stores.binary || echo 'no redis-server for this machine: apt install redis-server'
	@touch $@ .venv/.demo .venv/.core
.venv/.dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

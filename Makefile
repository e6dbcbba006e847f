# make demo    set up and run the main job on a simulated FT232H with a real OVMF image
# make demo-tui  the technician's bench, with two simulated programmers
# make test    set up and run every test
# make quick   what developers run all day (no slow tests, no foreign programs)
# make lint    format, lint, types, import contracts
# make clean   remove what make made

SHELL := /bin/sh
BIN := .venv/bin

.PHONY: demo demo-tui test quick foreign lint clean

demo: .venv/runtime
	sh .ci/tools ovmf
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo.sh

demo-tui: .venv/runtime
	sh .ci/tools ovmf
	$(BIN)/pip install --quiet --editable '.[tui]'
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo-tui.sh

test: .venv/dev
	sh .ci/tools ovmf qemu-efi-aarch64 qemu-system-x86 qemu-system-arm flashrom udev tmux
	$(BIN)/pytest -n 2

quick: .venv/dev
	$(BIN)/pytest -q -n 2 -m "not slow and not foreign"

foreign: .venv/dev
	$(BIN)/pytest -m foreign

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

.venv/runtime: pyproject.toml .ci/venv
	sh .ci/venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/dev: .venv/runtime
	$(BIN)/pip install --quiet --group dev
	touch $@

clean:
	rm -rf .venv dist build demo-out .pytest_cache .ruff_cache .hypothesis .coverage htmlcov \
	    .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

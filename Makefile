# make demo    set up and run the main job on a simulated FT232H with a real OVMF image
# make demo-tui  the technician's bench, with two simulated programmers
# make test    set up and run every test
# make quick   what developers run all day (no slow tests, no foreign programs)
# make lint    format, lint, types, import contracts
# make clean   remove what make made

SHELL := /bin/sh
BIN := .venv/bin
# Tests start Python hundreds of times; without compiled files each one compiles hwflash anew.
unexport PYTHONDONTWRITEBYTECODE
# labgrid has a venv of its own: it brings pyserial-labgrid, which would replace pyserial.
LABGRID := .venv/labgrid/bin

.PHONY: demo demo-tui test quick foreign lint clean

demo: .venv/runtime
	sh .ci/tools ovmf
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo.sh

demo-tui: .venv/runtime
	sh .ci/tools ovmf
	$(BIN)/pip install --quiet --editable '.[tui]'
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/demo-tui.sh

# Guests and servers are waited for: two cores have time for three tests at once.
test: .venv/dev .venv/labgrid/ready
	sh .ci/tools ovmf qemu-efi-aarch64 qemu-efi-arm qemu-system-x86 qemu-system-arm flashrom \
	    udev tmux openssh-server acpica-tools coreboot-utils uefitool-cli
	$(BIN)/pytest -n 3
	$(LABGRID)/pytest labgrid

quick: .venv/dev
	$(BIN)/pytest -q -n 2 -m "not slow and not foreign"

foreign: .venv/dev
	$(BIN)/pytest -m foreign

lint: .venv/dev .venv/labgrid/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/pyright -p labgrid
	$(BIN)/lint-imports

.venv/runtime: pyproject.toml .ci/venv
	sh .ci/venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/dev: .venv/runtime
	$(BIN)/pip install --quiet --group dev
	touch $@

.venv/labgrid/ready: labgrid/pyproject.toml .venv/runtime
	$(BIN)/python -m venv .venv/labgrid
	$(LABGRID)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(LABGRID)/pip install --quiet --editable labgrid --group labgrid/pyproject.toml:dev
	touch $@

clean:
	rm -rf .venv dist build demo-out .pytest_cache .ruff_cache .hypothesis .coverage htmlcov \
	    .import_linter_cache labgrid/.pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target works from a fresh clone: what it needs is built on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/argus/v1/*.proto)
# Without this, running python in the root of the repository would make kernels/ importable
# under its bare name, which diffusers takes for a library of that name.
export PYTHONSAFEPATH := 1

.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | \
		awk -F'\t' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: venv
venv: $(VENV)/.installed  ## Make .venv with the argus command in it.

$(VENV)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.PHONY: proto
proto: venv  ## Generate the stubs in argus/v1 from proto/.
	$(BIN)/python -m grpc_tools.protoc --proto_path=proto \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
		--python_out=. --mypy_out=readable_stubs,quiet:. --grpc_python_out=. $(PROTOS)
	@touch argus/v1/__init__.py

# `make demo` and `make test` do all set-up on a fresh machine with Python 3.11.
# `make check` is for every commit; `make lint test` is what continuous integration runs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
STUBS = $(VENV)/stubs
LOWEST = $(VENV)-lowest
DEMO ?= out/demo

# Two processes of one thread each; a file's tests stay together, for they share what they prepare.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: check clean demo lint test test-full test-lowest types

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/uniad-toolkit demo -o $(DEMO) --force

# Tests list folders into which Python would write the bytecode of plugins.
test: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE=1 $(PYTEST) -m 'not full'

# One at a time: UniAD-base takes 8 GB.
test-full: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE=1 $(PYTEST) --numprocesses 1 -m full

check: lint
	$(PYTEST) -m 'not converts and not thorough and not slow and not gpu'

# The lowest versions that setup.py claims, in an environment of their own. Torch comes first, and by pip: the lowest is
# the one of constraints.txt.
$(LOWEST)/.installed: setup.py constraints.txt
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --no-deps --constraint constraints.txt torch uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	touch $@

test-lowest: $(LOWEST)/.installed
	$(PYTEST:$(BIN)/%=$(LOWEST)/bin/%) -m 'parity or not converts and not thorough and not slow and not gpu'

# Types to check against: those of NumPy 2, whichever is installed (the nuScenes devkit asks for NumPy 1), and those of
# TensorRT, whose package requires TensorRT itself and names parameters `in`, which is no Python.
$(STUBS): $(INSTALLED)
	rm -rf $@ $@.new
	$(BIN)/pip install --quiet --no-deps --target $@.new 'numpy>=2' 'tensorrt-stubs==10.13.*'
	sed -i -e 's/\bin: list\[/in_: list[/' -e 's/channel_axis: int) -> IScaleLayer/channel_axis: int = ...) -> IScaleLayer/' \
		$@.new/tensorrt_bindings/tensorrt.pyi
	mv $@.new $@

lint: types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) $(STUBS)
	MYPYPATH=$(STUBS) $(BIN)/mypy toolkit plugins custom_ops configs tests benchmarks setup.py

clean:
	rm -rf $(VENV) $(LOWEST) out build *.egg-info

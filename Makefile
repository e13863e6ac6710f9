# make setup   the virtual environment alone        make demo    a swarm of three peers, one of them killed
# make test    the tests                            make style   ruff, generated code fresh
# make types   pyright                              make bench   the benchmarks, one JSON line each
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(wildcard kernels/native/*.cpp kernels/native/*.hpp kernels/native/CMakeLists.txt)
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: setup demo test style types bench clean
setup: $(STAMP)

# After an edit of native sources alone, only what it touches is compiled again (docs/decisions/0007-native-build.md).
$(STAMP): pyproject.toml constraints.txt $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit("shoal needs Python 3.11 or newer, this is %d.%d; try: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		$(if $(filter-out $(NATIVE),$?),-e '.[dev]',--no-build-isolation --no-deps -e .)
	@$(BIN)/python -c 'import shoal_native' 2>/dev/null || echo "WARNING: the native kernels were not built; Shoal runs without them, much slower." \
		"They need gcc >= 12 or clang >= 14; then: make -B setup. Why it failed: $(BIN)/python -m pip install -v --no-deps -e ." >&2
	@touch $(STAMP)

demo: setup
	@$(BIN)/python -m shoal demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not swarm'
	$(BIN)/python -m pytest -m swarm

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m proto.generate --check

types: setup
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --project pyproject.toml

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache *.egg-info

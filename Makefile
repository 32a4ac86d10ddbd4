# make demo: the bundled sample city from map to answers.  make test: lint, types, tests.  Both set up .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
TORCH ?= torch==2.13.0
# Where a machine has no CPU build of torch at hand, PyPI's Linux wheel brings 3 GB of CUDA; PyTorch's own index does not.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: setup test lint demo slow milvus results clean

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)+cpu" 2>/dev/null || $(BIN)/pip install --quiet "$(TORCH)" --index-url $(TORCH_INDEX)
	$(BIN)/pip install --quiet -e ".[dev,tensorboard]"
	@touch $@

test: setup lint
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Minutes each, on ../shared (real data and a real text encoder) where it lies beside the repository.
slow: setup
	$(BIN)/pytest -m slow

# Minutes, against the Milvus server of a PyPI package (58 MB), which only these tests need.
MILVUS ?= milvus==2.3.5
milvus: setup
	@$(BIN)/pip install --quiet --no-deps "$(MILVUS)" || \
		{ echo "NOT TESTED with a Milvus server: no $(MILVUS) to be had for this machine" >&2; exit 0; }; \
	.ci/alone $(BIN)/pytest -m milvus_server -rs

# Hours: every method of benchmarks/quality on folds of real queries that is not done yet, then the table of all of them.
# More options: make results RESULTS="--methods bm25 zero-shot --seeds 1".
RESULTS ?=
results: setup
	$(BIN)/python benchmarks/results.py $(RESULTS)

# What a user would type, in a folder of its own.
demo: export PATH := $(BIN):$(PATH)
demo: setup
	rm -rf demo
	mkdir demo
	cd demo && m3gal data sample
	cd demo && m3gal data osm data/helsinki.osm.pbf
	cd demo && m3gal pretrain --config demo.yaml --max-steps 0 --output-name untrained
	cd demo && m3gal pretrain --config demo.yaml --output-name pretrained
	cd demo && m3gal finetune --config demo.yaml --init runs/pretrained --output-name finetuned --epochs 1 --batch-size 32 --lr 3e-4 --gc-lr 3e-4
	cd demo && m3gal eval-retrieval --checkpoint runs/untrained --no-bm25
	cd demo && m3gal eval-retrieval
	cd demo && m3gal eval-rerank
	cd demo && m3gal predict data/queries.jsonl --table --top-k 3

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

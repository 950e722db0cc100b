# Two commands set everything up: `make demo` and `make test`. Both make their own .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Where real cells and slides lie; tests that need them skip without.
export CYTOLIBRA_SHARED ?= $(abspath ../shared)
# Kept bytecode, whatever the surroundings say: without it each of hundreds of processes of the
# tests compiles torch and all else that it imports, ten seconds and more of each.
export PYTHONDONTWRITEBYTECODE :=

FUZZ ?= geojson
SECONDS ?= 300

.PHONY: demo test test-slow test-browser test-spatialdata fuzz view-assets lint bench paper-table loss-table seed-systems gpu docs site docs-pictures hooks wheel release clean

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)  ## screen synthetic slides with the shipped model and say where the reports are
	$(BIN)/python -m scripts.demo --out demo

# One thread a worker: threads of two processes on two cores wait spinning for each other.
test: lint $(STAMP)  ## lint, types and the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not browser"

test-slow: $(STAMP)  ## the tests that take minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "slow and not browser"

view-assets: $(STAMP)  ## build the reading room's page, by Node; the wheel carries it
	$(BIN)/python -m scripts.viewer_build

test-browser: view-assets  ## the page's own checks, then the reading room as a person uses it, in Chromium
	$(BIN)/python -m scripts.viewer_build --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/browser

SPATIALDATA := build/spatialdata
test-spatialdata: $(STAMP)  ## open a SpatialData store by spatialdata, in an environment of its own (a gigabyte)
	test -x $(SPATIALDATA)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(SPATIALDATA)
	$(BIN)/uv pip install --quiet --python $(SPATIALDATA)/bin/python 'spatialdata >= 0.7, < 0.8'
	CYTOLIBRA_SPATIALDATA=$(SPATIALDATA)/bin/python $(BIN)/python -m pytest tests/pipeline/reports/test_spatial_cells.py

fuzz: $(STAMP)  ## feed the parser FUZZ (by default geojson) with what libFuzzer comes up with, for SECONDS
	$(BIN)/python -m tests.fuzz $(FUZZ) --seconds $(SECONDS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## every benchmark, one table each
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

# Detectors x losses on annotated fields; hours. Start it once a core or GPU, with the same RUNS.
CRIC    ?= $(CYTOLIBRA_SHARED)/cric
WEIGHTS ?= $(CYTOLIBRA_SHARED)/weights/mobilenet_v2-b0353104.pth
RUNS    ?= runs/compare
# Images whose annotations nobody looks at, and a folder with the weights of EfficientNet-Lite.
UNLABELLED ?= $(CRIC)/train, $(CRIC)/extra
LITE    ?= .
WITH_EXTRA = \
  --set "base.data.train=[{annotations: $(CRIC)/train.json, images: $(CRIC)/train}, {annotations: $(CRIC)/extra.json, images: $(CRIC)/extra}]" \
  --set base.data.val.annotations=$(CRIC)/val.json --set base.data.val.images=$(CRIC)/val \
  --set base.model.backbone_weights=$(WEIGHTS)
paper-table: $(STAMP)  ## train what is missing of the table of detectors and losses, and write it
	$(BIN)/cytolibra compare --config compare/cric --out $(RUNS) \
	  --set base.data.train.annotations=$(CRIC)/train.json --set base.data.train.images=$(CRIC)/train \
	  --set base.data.val.annotations=$(CRIC)/val.json --set base.data.val.images=$(CRIC)/val \
	  --set base.model.backbone_weights=$(WEIGHTS)

loss-table: $(STAMP)  ## train what is missing of the table of all losses, and write it
	$(BIN)/cytolibra compare --config compare/losses --out $(RUNS)-losses \
	  --records benchmarks/records/losses $(WITH_EXTRA) $(ARGS)

seed-systems: $(STAMP)  ## train what is missing of the table of ideas from related work, and write it
	$(BIN)/cytolibra compare --config compare/seed-systems --out $(RUNS)-systems \
	  --records benchmarks/records/seed-systems $(WITH_EXTRA) \
	  --set systems.fourier.data.augment.fourier.images=$(CRIC)/extra \
	  --set "systems.mean-teacher.mean_teacher.images=[$(UNLABELLED)]" \
	  --set systems.efficientnet-lite0.model.backbone_weights=$(LITE)/efficientnet-lite0-57934424.pth \
	  --set systems.efficientnet-lite1.model.backbone_weights=$(LITE)/efficientnet-lite1-77cc7160.pth \
	  --set systems.efficientnet-lite2.model.backbone_weights=$(LITE)/efficientnet-lite2-9656183e.pth $(ARGS)

gpu: $(STAMP)  ## on a machine with a GPU: large detector and grader, three seeds, and the benchmarks
	CRIC=$(CRIC) PYTHON=$(abspath $(BIN)/python) benchmarks/gpu.sh

docs: $(STAMP)  ## write anew what is made of code: schemas, the reference pages
	$(BIN)/python -m pipeline.reports.report
	$(BIN)/python -m pipeline.batch.run_record
	$(BIN)/python -c "from scripts import config; config.write_schemas()"
	$(BIN)/python -m scripts.reference

site: $(STAMP)  ## build the documentation into build/site; a broken link ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-pictures: $(STAMP)  ## take the pictures of the documentation anew, of drawn slides, by Chromium
	$(BIN)/python -m scripts.reference.pictures

hooks: $(STAMP)  ## check each commit before it is made
	$(BIN)/pre-commit install

wheel: view-assets
	$(BIN)/uv build --wheel --python $(BIN)/python

release: view-assets  ## check all that a release needs, write wheel and SBOM into dist; publishes nothing
	$(BIN)/python -m scripts.release

clean:
	rm -rf $(VENV) build dist demo *.egg-info viewer/node_modules pipeline/review/assets

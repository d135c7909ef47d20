# `make` alone prints the targets.
.DEFAULT_GOAL := help
PYTHON   ?= python3.11
VENV     := .venv
BIN      := $(VENV)/bin
STAMP    := $(VENV)/.installed
BACKBONE ?= efficientvit_b0
TEACHER  ?= facebook/sam3
DATA     ?=
INIT     ?= runs/stage1/$(BACKBONE)/student
TEXT     ?= mobileclip_s0
WANDB    ?= disabled
FIRST_SEED ?= 0
ARGS     ?=
export TOKENIZERS_PARALLELISM := false
# Two test processes with one thread each: with more threads than cores they wait for each other.
TEST_ENV := WANDB_MODE=disabled HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1

help: ## print this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv and install the project into it (the other targets do it by themselves)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch torchvision
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## distil one student on the embedded world, all stages, and write runs/demo/report.html (about 14 minutes on 2 cores)
	$(BIN)/phd demo runs/demo

test: $(STAMP) ## the fast tests
	$(TEST_ENV) $(BIN)/pytest -n 2 -m "not slow"

test-all: $(STAMP) ## every test, the slow ones too
	$(TEST_ENV) $(BIN)/pytest -n 2

lint: $(STAMP) ## ruff and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

stage1: $(STAMP) ## distil the image encoder: make stage1 BACKBONE=tinyvit_11m TEACHER=facebook/sam3 DATA=shards
	@test -n "$(DATA)" || { echo "make stage1: name the shards, DATA=FOLDER (phd shards convert makes them)" >&2; exit 2; }
	$(BIN)/phd fit -c experiments/trainer.yaml -c experiments/stage1.yaml -c experiments/backbone/$(BACKBONE).yaml \
	  --model.teacher=$(TEACHER) --data.root=$(DATA) --trainer.default_root_dir=runs/stage1/$(BACKBONE) \
	  --wandb=$(WANDB) $(ARGS)

stage2: $(STAMP) ## distil the memory into the student of stage 1: make stage2 BACKBONE=tinyvit_11m DATA=shards [INIT=student]
	@test -n "$(DATA)" || { echo "make stage2: name the shards, DATA=FOLDER (phd shards convert makes them)" >&2; exit 2; }
	$(BIN)/phd fit -c experiments/trainer.yaml -c experiments/stage2.yaml --model.init_from=$(INIT) \
	  --model.teacher=$(TEACHER) --data.root=$(DATA) --trainer.default_root_dir=runs/stage2/$(BACKBONE) \
	  --wandb=$(WANDB) $(ARGS)

# Of a text encoder that was distilled alone, its folder; otherwise its name.
TEXT_STUDENT = $(or $(wildcard runs/text/$(TEXT)/student),$(TEXT))

stage3: INIT = runs/stage2/$(BACKBONE)/student
stage3: $(STAMP) ## learn concepts on the student of stage 2: make stage3 BACKBONE=tinyvit_11m DATA=shards [INIT=student]
	@test -n "$(DATA)" || { echo "make stage3: name the shards, DATA=FOLDER (phd shards convert makes them)" >&2; exit 2; }
	$(BIN)/phd fit -c experiments/trainer.yaml -c experiments/stage3.yaml --model.init_from=$(INIT) \
	  --model.teacher=$(TEACHER) --model.text=$(TEXT_STUDENT) --data.root=$(DATA) \
	  --trainer.default_root_dir=runs/stage3/$(BACKBONE) --wandb=$(WANDB) $(ARGS)

text: $(STAMP) ## distil a text encoder alone: make text TEXT=mobileclip_s0 TEACHER=facebook/sam3 DATA=phrases.txt
	@test -n "$(DATA)" || { echo "make text: name the phrases, DATA=FILE with one per line, or shards that have some" >&2; exit 2; }
	$(BIN)/phd fit -c experiments/trainer.yaml -c experiments/text.yaml --model.text=$(TEXT) \
	  --model.teacher=$(TEACHER) --data.root=$(DATA) --trainer.default_root_dir=runs/text/$(TEXT) \
	  --wandb=$(WANDB) $(ARGS)

students: $(STAMP) ## the nine students with parameters and GMACs
	$(BIN)/phd students

# A student named on the command line (INIT=FOLDER); without one the ablations take the demo's.
NAMED_STUDENT = $(if $(filter command environment,$(origin INIT)),--init $(INIT))

ablation-memory: $(STAMP) ## compare memories on the embedded world, 3 seeds each, into docs/results.md (about 40 minutes on 2 cores)
	$(BIN)/phd ablation memory runs/ablation/memory --first-seed $(FIRST_SEED) $(NAMED_STUDENT) --results docs/results.md $(if $(ARGS),-- $(ARGS))

ablation-freezing: $(STAMP) ## stage 3 with staged freezing or all at once, 3 seeds each, into docs/results.md (an hour or more on 2 cores)
	$(BIN)/phd ablation freezing runs/ablation/freezing --first-seed $(FIRST_SEED) $(NAMED_STUDENT) --results docs/results.md $(if $(ARGS),-- $(ARGS))

ablation-negatives: $(STAMP) ## stage 3 with 0, 1, 3 and 8 hard negatives, 3 seeds each, into docs/results.md (an hour or more on 2 cores)
	$(BIN)/phd ablation negatives runs/ablation/negatives --first-seed $(FIRST_SEED) $(NAMED_STUDENT) --results docs/results.md $(if $(ARGS),-- $(ARGS))

# For weights and data of one's own: ARGS="--teacher facebook/sam3 --data-images SHARDS ..."; phd family --help.
family: $(STAMP) ## distil all nine students through the three stages, one table into docs/results.md (4 to 6 hours on 2 cores)
	$(BIN)/phd family runs/family --results docs/results.md $(ARGS)

toy-teacher: $(STAMP) ## train the embedded teacher again and put it into the package (hours on 2 cores)
	$(BIN)/phd toy-teacher runs/toy-teacher --install

sweep: $(STAMP) ## run experiments/sweeps/stage1_lr.yaml on this machine, without a server
	$(BIN)/phd sweep --local experiments/sweeps/stage1_lr.yaml --out runs/sweep

clean: ## remove caches and runs; the environment stays
	rm -rf runs .pytest_cache .ruff_cache dist

.PHONY: help install demo test test-all lint stage1 stage2 stage3 text students toy-teacher ablation-memory ablation-freezing ablation-negatives family sweep clean

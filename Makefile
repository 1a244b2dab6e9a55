# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into .venv first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PARITY := .venv-parity
STAMP := $(VENV)/installed

.PHONY: demo bundled-model test test-fast test-parity lint renderer lock clean

# `make demo DEMO="--from-scratch --mbpo.model.initial-tokenizer-updates 450"` begins with a random world model instead of the
# one that comes with the project.
demo: $(STAMP) renderer
	$(VENV)/bin/ivideogpt train --preset demo --task handle-press --run-dir runs/demo $(DEMO)

# The world model that comes with the project, made anew: about three hours on two CPU cores. Stopped at any moment, the same
# command goes on. These tasks are never learned from: what the model does on them is what it does on something new.
# After a first training of both parts, both learn on, at rates that begin at half and fall to zero once more.
UNSEEN := plate-slide plate-slide-back plate-slide-back-side handle-press handle-press-side door-close window-close \
  button-press-wall soccer stick-push stick-pull shelf-place pick-place reach-wall coffee-pull
BUNDLED := experiments/models/laptop-metaworld
bundled-model: $(STAMP) renderer
	$(VENV)/bin/ivideogpt collect-data data/metaworld --tasks all --without $(UNSEEN) --scripted 15 --noisy 30 --random 15
	$(VENV)/bin/ivideogpt pretrain tokenizer --preset laptop-frames --data data/metaworld/* --run-dir runs/bundled-tokenizer
	$(VENV)/bin/ivideogpt pretrain transformer --preset laptop-frames --tokenizer runs/bundled-tokenizer \
	  --data data/metaworld/* --run-dir runs/bundled
	$(VENV)/bin/ivideogpt finetune runs/bundled --mode tokenizer --preset laptop-frames --data data/metaworld/* \
	  --tokenizer.steps 4000 --world-model.tokenizer-optimizer.learning-rate 5e-4 --run-dir runs/bundled-tokenizer-on
	$(VENV)/bin/ivideogpt finetune runs/bundled-tokenizer-on --mode transformer --preset laptop-frames \
	  --data data/metaworld/* --transformer.steps 13000 --world-model.transformer-optimizer.learning-rate 6e-4 \
	  --run-dir runs/bundled-on
	$(VENV)/bin/ivideogpt import-weights runs/bundled-on runs/bundled-float16 --dtype float16
	cd runs/bundled-float16 && cp -r tokenizer transformer world_model.json ../../$(BUNDLED)

# Everything: what continuous integration calls.
test: $(STAMP)
	$(MAKE) --no-print-directory -j2 --output-sync=target lint docs renderer $(PARITY)/installed
	$(VENV)/bin/python -m pytest --ignore tests/parity
	$(MAKE) --no-print-directory test-parity

# For daily work: without the tests that train for minutes or kill processes.
test-fast: lint renderer
	$(VENV)/bin/python -m pytest --ignore tests/parity -m "not slow"

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

# The references that the golden files come from (PyTorch) have an environment of their own: they share nothing with ours.
test-parity: $(STAMP) $(PARITY)/installed
	$(PARITY)/bin/python tests/parity/make_golden.py --check
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 XLA_FLAGS= $(VENV)/bin/python -m pytest tests/parity

# 2500 damaged files against the readers, about a quarter of an hour: none may hang, end in a traceback or be believed.
.PHONY: mutations
mutations: $(STAMP)
	$(VENV)/bin/python tests/mutations.py

# The pages of docs/, with warnings as errors: open docs/_build/html/index.html. They load nothing from elsewhere.
.PHONY: docs
docs: $(STAMP)
	$(VENV)/bin/python -m sphinx -q -W --keep-going -b html docs docs/_build/html

# The page of results as Markdown, its tables made from experiments/results: docs/_build/results.md.
.PHONY: results
results: $(STAMP)
	mkdir -p docs/_build
	$(VENV)/bin/python docs/_ext/results.py > docs/_build/results.md

$(PARITY)/installed: tests/parity/requirements.txt tests/parity/requirements-no-deps.txt
	test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet -r $<
	$(PARITY)/bin/python -m pip install --quiet --no-deps -r tests/parity/requirements-no-deps.txt
	touch $@

# The lock holds exact versions with hashes; the project itself then needs nothing more.
$(STAMP): requirements.lock setup.cfg pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --no-deps -e .
	touch $(STAMP)

# MuJoCo needs EGL or OSMesa to draw without a screen.
renderer: $(STAMP)
	$(VENV)/bin/ivideogpt doctor --install-renderer --quiet

lock:
	uv pip compile setup.cfg --extra test --extra data --extra dm-control --extra docs --extra sweep --python-version 3.11 --generate-hashes -o requirements.lock

clean:
	rm -rf $(VENV) $(PARITY) build *.egg-info

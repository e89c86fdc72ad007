# Everything runs in .venv in this folder; `make install` needs Python, a C++ compiler and the package registries.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The other supported versions. The registry's torch 2.4.1 is a CUDA build of 5 GB.
STOCK := .venv-stock
STOCK_PYTHON ?= python3.8

.PHONY: install demo web-demo teacher study check test test-slow test-stock fuzz lint docs bench check-gpu clean

install: $(STAMP)

# fairseq's build needs torch, numpy and cython to be there already; 3.1 of cython is too new for it.
# torch is pinned: a plain `pip install torch` takes the newest, which may be gigabytes of CUDA.
$(STAMP): pyproject.toml Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install "$(TORCH)" "numpy" "cython<3.1" "setuptools" wheel
	$(BIN)/pip install --no-build-isolation -e ".[manifests,demo,transcribe,export,lm,docs,dev]"
	touch $(STAMP)

demo: install
	$(BIN)/python recipes/demo/run.py $(DEMO)

# The HuBERT that the demo distils, made again.
teacher: install
	$(BIN)/python recipes/demo/teacher.py $(TEACHER)

# The demo's student with Fbank as a page, on http://127.0.0.1:8000
web-demo: demo
	rm -rf out/web-demo
	$(BIN)/python -m distill_user_dir.export out/demo/ctc-distilled-fbank/checkpoint_best.pt out/web-demo --format web
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory out/web-demo 8000

study: install
	$(BIN)/python recipes/demo/study.py $(STUDY)

# Tests run side by side on the cores, in random order; those that begin at once are the longest.
FAST := tests/test_architecture.py tests/losses tests/lr_schedulers tests/optimizers tests/modules/test_fbank.py \
  tests/modules/test_fold.py tests/modules/test_conv_layers.py tests/modules/test_span_mask.py tests/data/test_audio.py \
  tests/data/test_manifest.py tests/data/test_frame_labels.py tests/decoding/test_wer.py tests/test_results.py tests/test_files.py
PYTEST_ALL := $(BIN)/python -m pytest -n auto --dist worksteal

# What to run before each commit: lint, and the rooms whose tests start no training and no process.
check: lint
	$(PYTEST_ALL) $(FAST) $(PYTEST)

test: install
	$(PYTEST_ALL) tests -m "not slow" $(PYTEST)

# Whole chains and full sizes: the demo, the commands of the documentation, several workers, stopped again and again.
test-slow: install
	$(PYTEST_ALL) --dist loadfile tests -m slow $(PYTEST)

# The suite and a demo of minutes with stock fairseq; later versions of pip refuse its omegaconf's metadata.
test-stock:
	test -x $(STOCK)/bin/python || $(STOCK_PYTHON) -m venv $(STOCK)
	$(STOCK)/bin/pip install "pip<24.1"
	$(STOCK)/bin/pip install torch==2.4.1
	$(STOCK)/bin/pip install -e ".[manifests,demo,transcribe,lm,dev]"
	$(STOCK)/bin/python -m pytest -n auto tests $(PYTEST)
	$(STOCK)/bin/python recipes/demo/run.py --out out/demo-stock --train 60 --updates 10

# As the suite's tests of strangers' files, with a thousand cases each.
fuzz: install
	FUZZ=$(or $(FUZZ),1000) $(BIN)/python -m pytest tests/test_fuzz.py $(PYTEST)

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

# The documentation as a site in out/site; a link that leads nowhere is an error.
docs: install
	$(BIN)/mkdocs build --strict --quiet

bench: install
	$(BIN)/python benchmarks/truncated_teacher.py
	$(BIN)/python benchmarks/discriminative_loss.py
	$(BIN)/python benchmarks/fbank_student.py
	$(BIN)/python benchmarks/large_manifest.py
	$(BIN)/python benchmarks/distillation_update.py
	$(BIN)/python benchmarks/finetuning_update.py
	$(BIN)/python benchmarks/loading.py

# On a machine with a GPU: in the given Python where there is one (CHECK_PYTHON), with nothing installed and no network.
check-gpu:
	$(or $(CHECK_PYTHON),$(BIN)/python) benchmarks/check_gpu.py $(CHECK)

clean:
	rm -rf $(VENV) $(STOCK) out

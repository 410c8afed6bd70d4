# For a newcomer: make demo. For a change: make check. Both set everything up in $(VENV) first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := train,export,cpu,openvino,tensorrt-rtx,large,fast,coco,video,objects,plots,interop,dev,docs,serve

.PHONY: setup demo check test test-all lint sanitize faults fuzz coverage audit clean

setup: $(VENV)/.installed

# Python changes need no new installation (it is editable); these do.
$(VENV)/.installed: pyproject.toml constraints.txt CMakeLists.txt $(shell find csrc -name '*.[ch]pp')
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	# Outside oracles of the tests; with their dependencies they would choose other versions of ours.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps monai tritonclient python-rapidjson
	touch $@

# ---------------------------------------------------------------------------------------------
# make demo                               shapes drawn for the purpose
# make demo DATA=path/to/voc EPOCHS=3     your own images in VOC layout
DATA ?=
ifeq ($(DATA),)
NAME := shapes
FOLDER := demo/shapes-600
EPOCHS ?= 16
TRAIN := --crop 128x160 --batch 16 --half-size 0.5 --validate-every 4
else
# The whole path: two folders of the same name are two demos.
NAME := $(subst /,-,$(patsubst %/,%,$(DATA)))
FOLDER := $(DATA)
EPOCHS ?= 3
TRAIN :=
endif
# Features of stride 4 give sharp corners; FCN-32s takes as long and draws blobs.
MODEL := fpn-resnet18
OUT := demo/$(NAME)-$(MODEL)-$(EPOCHS)
FCNKIT := $(BIN)/fcnkit
# One line after each step: what it made, and where.
say = @printf '==> %s\n' '$(1)'

demo: setup $(OUT)/.trained
	$(FCNKIT) eval $(OUT)/run/best.pt $(FOLDER) --report $(OUT)/report
	$(call say,the scores above: the network on the images of val)
	for head in logits labels scene; do \
	  $(FCNKIT) export onnx $(OUT)/run/best.pt -o $(OUT)/$$head.onnx --head $$head || exit 1; \
	done
	$(call say,three ONNX files that agree with PyTorch: logits.onnx labels.onnx scene.onnx in $(OUT))
	$(FCNKIT) info $(OUT)/labels.onnx
	$(call say,the facts above: what a client must know about $(OUT)/labels.onnx)
	$(FCNKIT) export engine $(OUT)/labels.onnx -o $(OUT)/labels.engine
	$(call say,a TensorRT engine to run on a machine with a GPU: $(OUT)/labels.engine)
	$(FCNKIT) predict $(OUT)/scene.onnx $(FOLDER)/JPEGImages -o $(OUT)/labels
	$(call say,a label image for every image: $(OUT)/labels)
	$(FCNKIT) predict $(OUT)/scene.onnx $(FOLDER)/JPEGImages -o $(OUT)/overlay --format overlay
	$(call say,every image under its labels: $(OUT)/overlay)
	$(FCNKIT) bench latency $(OUT)/labels.onnx --shape 320x480 --batch 1 -o $(OUT)/latency
	$(call say,the times above: one image of 320x480 on this machine)
	rm -rf $(OUT)/site
	$(FCNKIT) export web $(OUT)/scene.onnx -o $(OUT)/site
	$(call say,a page that labels images in the browser: $(OUT)/site)
	$(BIN)/python docs/examples/demo_page.py $(OUT) $(FOLDER)
	@echo
	@echo "Open     $(OUT)/index.html         samples, scores, curves, latency, all of the above"
	@echo "Look at  $(OUT)/overlay            every image under its prediction"
	@echo "         $(OUT)/labels             the label PNGs"
	@echo "         $(OUT)/site               python -m http.server --directory $(OUT)/site"
	@echo "Use      $(OUT)/scene.onnx         any image in, labels out, in ONNX Runtime and OpenVINO"

$(OUT)/.trained: | setup
	test -n '$(DATA)' || $(FCNKIT) data shapes $(FOLDER) --train 600
	$(FCNKIT) data check $(FOLDER)
	$(call say,a data set without faults: $(FOLDER))
	mkdir -p $(OUT)
	$(FCNKIT) train $(FOLDER) -o $(OUT)/run --resume --recipe modern --model $(MODEL) \
	  --epochs $(EPOCHS) $(TRAIN)
	$(call say,a trained network: $(OUT)/run/best.pt)
	touch $@

# ---------------------------------------------------------------------------------------------
# Three tiers (tests/tiers.py says which test belongs to which):
#   make check       style, types and the fast tests: two minutes, for every change
#   make test        one test per command, option and claim: ten minutes, before a commit
#   make test-all    everything, MINUTES=30 stops it then and names what it did not reach
check: lint
	$(BIN)/python -m tests check

test: lint
	$(BIN)/python -m tests test

test-all: lint
	$(BIN)/python -m tests all $(if $(MINUTES),--minutes $(MINUTES))

lint: setup build/tree/.made build/strict/.made
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/tree $(BIN)/mypy --python-executable $(BIN)/python -p fcnkit
	$(BIN)/codespell README.md CONTRIBUTING.md SECURITY.md docs
	$(BIN)/mkdocs build --strict --quiet

# The package as it is installed, made of links: in a checkout the folders have other names.
build/tree/.made: $(wildcard src/fcnkit/*)
	rm -rf build/tree && mkdir -p build/tree/fcnkit
	for path in $(wildcard src/fcnkit/*) runtime train export; do \
	  ln -s ../../../$$path build/tree/fcnkit/ || exit 1; \
	done
	touch $@

# The C++ compiles without a warning; only where it has changed.
build/strict/.made: $(VENV)/.installed
	rm -rf build/strict
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/strict \
	  --config-settings=cmake.define.FCNKIT_WARNINGS_AS_ERRORS=ON .
	touch $@

# AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer over fuzz targets and kernel
# tests: SECONDS per target, some eleven minutes in all at 60.
SECONDS ?= 60
sanitize: setup
	PYTHON=$(BIN)/python sh tests/csrc/sanitize.sh $(SECONDS)

# Every promise of docs/reliability.md, tried: half an hour, and a table at its end.
faults: setup
	$(BIN)/python -m tests.faults --share full --minutes 30

# Fuzzing of everything that reads bytes, and of the kernels (with Debian's clang): FUZZ_SECONDS per
# target, seventeen targets.
FUZZ_SECONDS ?= 600
fuzz: setup
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)
	sh tests/csrc/fuzz.sh $(FUZZ_SECONDS)

# Lines of Python and C++ that the tests run; reports in build/coverage.
coverage: setup
	PYTHON=$(BIN)/python sh tests/coverage.sh

# Known weaknesses of the pinned packages, asked of the Python advisory database.
audit: setup
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

clean:
	rm -rf build demo $(VENV)

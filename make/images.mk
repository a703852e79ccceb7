# Images and dependency locks (docs/images.md).

VARIANT ?= cpu
IMAGES_FILE ?= $(STAR_CACHE)/images-$(VARIANT).yaml

.PHONY: images-cuda locks

images: setup ## Build and push the container images (VARIANT=cpu or cuda); what is there already is skipped
	@$(BIN)/python -m star_cli.images build --variant $(VARIANT) --out $(IMAGES_FILE)

images-cuda: ## The same for GPU nodes
	@$(MAKE) --no-print-directory images VARIANT=cuda

locks: setup ## Make the dependency locks anew from pyproject.toml and locks/*.in
	@eval "$$($(PYTHON) make/mirrors.py)"; $(BIN)/python -m star_cli.images locks

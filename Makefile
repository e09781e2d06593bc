# `make` alone lists the targets. Each brings the machine and the build up to date itself, so a fresh clone can start anywhere.
SHELL := /bin/bash
export PATH := $(PATH):$(HOME)/.cargo/bin

# Where `make install` puts the plugin: the folder GStreamer searches for the user's own plugins.
PREFIX ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/gstreamer-1.0/plugins

# What Python tools the tests, `harmonize eval --video` and distributed/render.py call, by requirements file; together in one virtual environment.
TOOLS := src/lab/eval/requirements.txt distributed/requirements.txt

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | while IFS=$$'\t' read -r target what; do printf '  make %-8s %s\n' "$$target" "$$what"; done

setup: ## install what is missing: Debian packages, and libtorch in .venv (CUDA=yes|no overrides looking for a driver)
	@./setup.sh

build: setup ## build the plugin and the command line into target/release
	cargo build --release --locked

demo: build ## harmonize a clip made of two photographs, or yours (FG=FILE MASK=FILE BG=FILE), into out/demo.mp4 and out/demo.png
	@pipelines/demo.sh $(if $(FG)$(MASK)$(BG),"$(FG)" "$(MASK)" "$(BG)")

tools: .venv-tools/complete ## put the Python tools that tests, `eval --video` and distributed/ call into .venv-tools, about 500 MB

# Begun anew where a list has changed or pip was interrupted; else what is there stays.
.venv-tools/complete: $(TOOLS) | setup
	python3 -m venv --clear .venv-tools
	.venv-tools/bin/python -m pip install --disable-pip-version-check --no-input --only-binary :all: $(TOOLS:%=-r %)
	touch $@

test: setup tools ## rustfmt, clippy with warnings as errors, the plugin and the trainer alone, and every test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo check --locked --no-default-features --features plugin --lib
	cargo check --locked --no-default-features --features trainer --bin harmonize-train
	cargo test --locked

bench: build ## time the parts, and the whole element beside others (BENCH="apply --plot FILE" for one of them, drawn)
	target/release/harmonize bench $(BENCH)

install: build ## put the plugin where GStreamer finds it (PREFIX=FOLDER, by default your own plugin folder)
	install -D -m 755 target/release/libgstharmonize.so "$(DESTDIR)$(PREFIX)/libgstharmonize.so"
	@echo "gst-inspect-1.0 harmonize should now list it. It uses the libtorch of this checkout: keep .venv where it is."

clean: ## remove target/ and out/; .venv and .venv-tools stay, they are the long downloads
	cargo clean
	rm -rf out

.PHONY: help setup build tools demo test bench install clean

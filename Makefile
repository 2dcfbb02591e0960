# Every target is a line of `make help`. The work is in dev/, so that it can be run and read by itself.
# Needs a Debian 12 machine (x86_64, root for what is installed), make, git and Rust; `make setup` adds the rest.

.DEFAULT_GOAL := help
.PHONY: help setup build test lint demo bench fuzz clean-demo

help: ## Say what the targets do
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Install what the tests need: Docker Engine, images, PostgreSQL, SeaweedFS, Schemathesis, cargo's tools
	@dev/setup test

build: ## Compile the program (debug profile) for this machine's Linux, as one static file
	@dev/setup build
	cargo build --locked -p undoo

test: ## Set up, then run lint, the fuzzers for a short time, and every test
	@dev/test

lint: ## Check the format, clippy's findings, and the rules of this repository (dev/tidy)
	@dev/setup build
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --keep-going -- -D warnings
	dev/tidy

demo: ## Break a real Odoo, restore it, undo that, restore again; prints the proof and the URL
	@dev/demo

bench: ## Measure against what people use today (long; docs/benchmarks.md says what)
	@dev/setup build
	cargo build --locked --release -p undoo -p undoo-store --bins --examples
	bench/run

fuzz: ## Feed the readers with broken input, FUZZ_SECONDS each (20)
	@dev/fuzz

clean-demo: ## Remove what `make demo` left running
	@dev/demo clean

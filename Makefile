# What one does here, one verb each; CI calls these and nothing else.
# Each verb does its own set-up, so that a fresh machine needs nothing but Rust. At most three lines a verb: what needs
# more is a script beside what it is about.
.DEFAULT_GOAL := build
.PHONY: run build test lint bench fuzz

run: ## the demo: echo services, a sidecar in front, traffic through it
	cargo run --release -- demo

build: ## the product, as it is shipped
	cargo build --release

test: ## everything that is proven, real peers included
	tests/run.py

lint: ## form, lints, dependencies, scripts
	cargo fmt --all --check && cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --workspace --all-targets -- -D warnings
	tests/lint.sh

bench: ## cost beside other proxies, on this machine
	benches/setup.sh
	cargo build --release --workspace
	benches/run.py

fuzz: ## every target for FUZZ_SECONDS (12) each
	fuzz/run.sh

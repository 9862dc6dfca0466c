# The commands of a developer; `make help` lists them. Each first installs the Debian packages that it needs and does not
# find, through sudo. When nothing is missing, nothing needs root. `make setup` installs nearly everything.

.DEFAULT_GOAL := help
.PHONY: help setup demo build check test fuzz lint docs deb cross-aarch64 cross-armhf test-arm test-armhf test-microphone test-network test-page screenshots test-device bench torture soak evaluate clean
# One job at a time: cargo uses every core by itself.
.NOTPARALLEL:

CARGO := scripts/cargo

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: ## Install what a developer needs (the ARM, device and bench targets install more)
	@scripts/setup build check test lint microphone page deb

demo: ## Start a hub and a cat-node that plays real meows, and show what they say, until Ctrl-C
	@scripts/setup build
	@demo/run

build: ## Build both daemons as the packages ship them
	@scripts/setup build
	$(CARGO) build --release --locked -p cat-node -p hub

check: ## Check format and clippy, and run the unit tests: the loop while you work
	@scripts/setup build check
	$(CARGO) fmt --all --check
	scripts/shape
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --lib --bins --locked --quiet

test: ## Build and test everything
	@scripts/setup build test
	@scripts/test

# How long each property is tested, or, if INPUTS is given, with how many inputs.
SECONDS := 60

fuzz: ## Test what reads foreign bytes with damaged input, for SECONDS=60 each, or with INPUTS=20000 each
	@scripts/setup build
	$(if $(INPUTS),FUZZ_INPUTS=$(INPUTS),FUZZ_SECONDS=$(SECONDS)) $(CARGO) test --workspace --lib --test api --test grpc --locked --no-fail-fast -- fuzz:: --nocapture

lint: ## Check format, clippy, dependencies, scripts and the shape of the code
	@scripts/setup build lint
	$(CARGO) fmt --all --check
	scripts/shape
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/tool cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	scripts/lint-scripts
	scripts/lint-monitoring

docs: ## Build the documentation of the code
	@scripts/setup build
	RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' $(CARGO) doc --workspace --no-deps --document-private-items --locked

deb: ## Make Debian packages for this machine
	@scripts/setup build deb
	scripts/deb native

cross-aarch64: ## Build both daemons and their packages for 64-bit ARM
	@scripts/setup build deb arm
	scripts/deb arm64

cross-armhf: ## Build both daemons and their packages for 32-bit ARM, from ARMv7 on
	@scripts/setup build deb armhf
	scripts/deb armhf

test-arm: ## Run the tests as 64-bit ARM programs, emulated
	@scripts/setup build arm
	scripts/test-arm

test-armhf: ## Run the tests as 32-bit ARM programs, emulated
	@scripts/setup build armhf
	scripts/test-arm armhf

test-network: ## Test cameras as sources, with a real RTSP server that is stopped and restarted
	@scripts/setup build test network
	e2e/network/run

test-microphone: ## Test the capture from a real sound server that is stopped and restarted
	@scripts/setup build test microphone
	e2e/microphone/run

test-page: ## Test the hub's page in a real browser
	@scripts/setup build page
	e2e/page/run

screenshots: ## Take the screenshots of the page that the README shows
	@scripts/setup build page
	e2e/page/run screenshots

test-device: ## Boot an emulated ARM Debian, install the package, capture from its sound card (about 15 minutes)
	@scripts/setup build deb arm device
	e2e/device/run

bench: ## Measure the analysis, the node, its size, the gateway, and the cost of listening and TLS
	@scripts/setup build test bench
	e2e/bench/run

torture: ## Run faults and attacks and print a table (ROWS=kill,disk picks rows, SHORT=1 takes three minutes)
	@e2e/torture/run $(if $(SHORT),--short) $(if $(ROWS),--rows $(ROWS))

soak: ## Analyse a day of audio at full speed; fails when memory grows
	@scripts/setup build
	$(CARGO) run --release --locked --quiet -p hub --example listening -- soak 24

evaluate: ## Measure the detector and the classifier on recordings they were not trained on
	@scripts/setup build
	training/evaluate

clean: ## Remove what was built
	$(CARGO) clean

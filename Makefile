# Two commands do everything on a fresh Debian or Ubuntu with a Rust toolchain and root or sudo:
#   make demo    the whole job, no Kafka needed
#   make test    every test, real Kafka included
# tools/need says exactly what is missing and installs it where it may.

CARGO ?= cargo

# The labelled lines that redaction is measured on: their licence forbids a copy in the repository.
# Where they are not, their floors are left out, and the first and the last line of the tests say so.
export BLOTTER_CORPUS ?= $(abspath ../shared/corpus)
WITHOUT_CORPUS = $(if $(wildcard $(BLOTTER_CORPUS)/dev.jsonl),,--skip corpus::)

.PHONY: demo demo-kafka test chaos bench lint fuzz clean

demo:
	tools/need build
	$(CARGO) run --release --quiet -- demo --out demo-out

demo-kafka:
	tools/need build kafka
	tools/with-kafka $(CARGO) run --release --quiet -- demo --brokers '{brokers}' --out demo-out

test:
	tools/need build kafka corpus
	$(CARGO) test --lib --no-default-features
	$(CARGO) test --lib --bins --test it --test redaction --test sim -- $(WITHOUT_CORPUS)
	$(CARGO) test --doc
	$(CARGO) test --test kafka -- --test-threads 1
	tools/need corpus

# The long runs behind README's figures: 200 kills, 200 stops, 100,000 simulated runs, 1,000,000
# generated records; hours on two cores.
chaos:
	tools/need build kafka
	BLOTTER_TEST_KILLS=200 BLOTTER_TEST_STOPS=200 \
		$(CARGO) test --test kafka -- chaos::killed chaos::stopped --nocapture --test-threads 1
	SIM_RUNS=100000 $(CARGO) test --test sim the_promises -- --nocapture
	BLOTTER_REDACTION_CASES=1000000 $(CARGO) test --test redaction properties -- --nocapture

bench:
	tools/need build kafka
	$(CARGO) bench --bench redact
	$(CARGO) bench --bench stage
	$(CARGO) bench --bench pipeline

lint:
	tools/need build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) check --lib --no-default-features
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --quiet

fuzz:
	tools/need build fuzz
	tools/fuzz 60

clean:
	$(CARGO) clean
	rm -rf demo-out

# Two commands do everything on a fresh Debian or Ubuntu with a Rust toolchain and root or sudo:
#   make demo    the whole job, no Kafka needed
#   make test    every test, real Kafka included
# tools/need says exactly what is missing and installs it where it may.

CARGO ?= cargo

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
	$(CARGO) test --lib --bins --test it --test redaction --test sim
	$(CARGO) test --doc
	@echo 'not part of make test: the long chaos and conformance runs on real Kafka (make chaos)'
	$(CARGO) test --test kafka -- --skip chaos:: --skip conform:: --skip pipeline::

# Daemons killed and stopped at every named point, brokers and the net failing, conformance of the
# embedded broker: long, and in need of a quiet machine.
chaos:
	tools/need build kafka
	$(CARGO) test --test kafka -- chaos:: conform:: pipeline::

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

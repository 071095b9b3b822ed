# What a change must pass, by what it costs; CONTRIBUTING.md says when to use which.
#
#   make quick     a minute: format, lints, unit tests, generated files
#   make test      four minutes: the suite, but for faults, peers and real images
#   make full      an hour and more, as root on Debian: everything that CI has
#   make release   the library that is shipped, in target/dist

CARGO ?= cargo

.PHONY: help quick test full release
help:
	@sed -n '3,6s/^# //p' Makefile

quick:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -q -- -D warnings
	$(CARGO) test --locked -q --lib
	$(CARGO) test --locked -q --test suite -- generated:: words:: abi:: api_docs:: bindings:: readme:: architecture::

# Many tests wait, so there are more of them at a time than processors. In memory, since a disk's file system is slower at
# making and removing files; `cargo test` has them on the disk.
test:
	$(CARGO) test --locked -q --lib
	BL_TEST_IN_MEMORY=1 $(CARGO) test --locked -q --test suite -- --test-threads $$((2 * $$(getconf _NPROCESSORS_ONLN))) \
	  --skip peers:: --skip real_image:: \
	  --skip faults::kills --skip faults::errors --skip faults::power --skip faults::soak --skip faults::corruption

full:
	CI_FULL=1 .ci/run

release:
	@$(MAKE) -s -C packaging build

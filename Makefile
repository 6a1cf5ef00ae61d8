# The few words a person types. Meson does the work; see CONTRIBUTING.md.
BUILD ?= build
MESON_ARGS ?= --buildtype=release
PREFIX ?= /usr/local

.PHONY: all setup demo check check-unit check-system check-kubelet bench install clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --prefix=$(PREFIX) $(MESON_ARGS)

# What is missing on this machine, installed where it is Debian or Ubuntu.
setup:
	tools/setup

# The main job on a bare machine: from an image to the kernel's own word on a memory limit.
demo: setup
	tools/demo

# All tests. Installs what they need itself.
check: setup
	tools/check/all

check-unit check-system check-kubelet: setup
	tools/check/all $(@:check-%=%)

bench: all
	bench/run $(BUILD)
	bench/oci/run $(BUILD)

install: all
	meson install -C $(BUILD)

clean:
	rm -rf $(BUILD) build-asan build-clang

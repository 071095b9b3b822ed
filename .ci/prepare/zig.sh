# The linker for macOS, in a place of its own.
python3 -m venv "$CI_WORK/python"
"$CI_WORK/python/bin/pip" install -q ziglang==0.17.1 cargo-zigbuild==0.24.1

#!/usr/bin/env bash
# Makes build/compiled: the package with its hot modules compiled, of the sources as they are now.
# PYTHONPATH=build/compiled has a command of .venv use it.
#
# It ends at once when nothing has changed. It needs .venv; what it builds with, pip gets for it.
set -euo pipefail
cd "$(dirname "$0")/.."

place=build/compiled
fingerprint() {
    {
        .venv/bin/python -VV
        cat pyproject.toml scripts/compile.py
        find src -name '*.py' -o -name '*.pyi' -o -name '*.lua' | LC_ALL=C sort | xargs cat
    } | sha256sum
}

if ! command -v sha256sum >/dev/null; then # macOS
    sha256sum() { shasum -a 256; }
fi

wanted=$(fingerprint)
if [ "$(cat "$place/.fingerprint" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
rm -rf "$place"
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
echo "compiled: compiling the hot modules (a minute or two)"
# As users do it, with what a build says it needs and nothing else.
if ! ADSUM_COMPILE=1 .venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir "$wheels" . &>"$wheels/log"; then
    cat "$wheels/log" >&2
    exit 1
fi
.venv/bin/python -m zipfile -e "$wheels"/*.whl "$place"
cp -R src/adsum/testing "$place/adsum/" # what no wheel has, and tests use
echo "$wanted" >"$place/.fingerprint"
echo "compiled: ready in $place"

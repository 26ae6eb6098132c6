#!/usr/bin/env bash
# Writes requirements/*.lock anew from pyproject.toml: exact versions with hashes,
# for Python 3.11 and later on every system, and no index address in them.
# Versions already locked stay unless UPGRADE=1 is set.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=${UV:-uv}
if ! command -v "$uv" >/dev/null; then
    echo "lock: uv is needed: 'pip install uv', or set UV= to its path" >&2
    exit 1
fi

upgrade=()
[ -z "${UPGRADE:-}" ] || upgrade=(--upgrade)

compile() { # NAME INPUT...
    echo "lock: requirements/$1.lock"
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        "${upgrade[@]+"${upgrade[@]}"}" --output-file "requirements/$1.lock" "${@:2}"
}

compile run pyproject.toml
compile build --group build
# The tests must see the versions that are shipped.
compile dev pyproject.toml --group dev --constraints requirements/run.lock --constraints requirements/build.lock

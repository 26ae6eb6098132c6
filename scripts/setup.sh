#!/usr/bin/env bash
# Makes .venv, with the `adsum` command in it and the locked packages, hashes checked.
#
#   scripts/setup.sh run    what the service needs
#   scripts/setup.sh dev    that, and what tests and linters need
#
# PYTHON= names the interpreter; otherwise it is the newest usable Python from 3.11 to 3.13.
# It ends at once when nothing it depends on has changed. On Debian and Ubuntu it installs
# what Python itself lacks to make a virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-run}
dev_locks=(requirements/dev.lock)
case $kind in
    run) locks=(requirements/run.lock requirements/build.lock) ;;
    dev) locks=("${dev_locks[@]}") ;;
    *) echo "usage: scripts/setup.sh [run|dev]" >&2; exit 2 ;;
esac

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# A command of that name may exist and still not run, or be too old.
is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
makes_venvs() { "$1" -c 'import ensurepip, ssl, venv' >/dev/null 2>&1; }

find_python() { # CHECK: prints the first candidate that passes
    local candidate
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if is_recent "$candidate" && "$1" "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

apt_install() { # PACKAGE...
    local as_root=()
    command -v apt-get >/dev/null || fail "install Python 3.11 or later with its venv module, or name one with PYTHON="
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "install $* as root (apt-get install $*), then run this again"
        as_root=(sudo)
    fi
    say "installing $* with apt-get"
    "${as_root[@]+"${as_root[@]}"}" apt-get update -qq </dev/null
    "${as_root[@]+"${as_root[@]}"}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

choose_python() {
    local python version
    if find_python makes_venvs; then
        return
    fi
    # Debian ships Python without what makes virtual environments (ensurepip).
    if python=$(find_python true); then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "python$version-venv" >&2
    elif [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON does not run or is older than 3.11"
    else
        apt_install python3 python3-venv >&2
    fi
    find_python makes_venvs || fail "Python 3.11 or later with its venv module is needed; PYTHON= names one"
}

# The environment holds absolute paths, so a moved checkout needs a new one.
fingerprint() { # LOCK...
    { pwd; cat pyproject.toml scripts/setup.sh src/adsum/__init__.py "$@"; } | sha256sum
}

if ! command -v sha256sum >/dev/null; then # macOS
    sha256sum() { shasum -a 256; }
fi

# Whether .venv runs, was made here, and with PYTHON if that is set.
home=.venv/.adsum-home
is_usable() {
    local path python=
    { read -r path && read -r python; } 2>/dev/null <"$home" || return 1
    [ "$path" = "$PWD" ] && [ "${PYTHON:-$python}" = "$python" ] && is_recent .venv/bin/python
}

is_fresh() { # STAMP FINGERPRINT
    [ -x .venv/bin/adsum ] && [ "$(cat "$1" 2>/dev/null)" = "$2" ]
}

stamp=.venv/.adsum-$kind
wanted=$(fingerprint "${locks[@]}")
if ! is_usable; then
    python=$(choose_python)
    say "making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear .venv
    printf '%s\n' "$PWD" "$python" >"$home"
# What `dev` installs contains what `run` does.
elif is_fresh "$stamp" "$wanted" || is_fresh .venv/.adsum-dev "$(fingerprint "${dev_locks[@]}")"; then
    exit 0
fi
rm -f "$stamp"

pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
requirements=()
for lock in "${locks[@]}"; do
    requirements+=(--requirement "$lock")
done
say "installing the locked packages (${locks[*]})"
"${pip[@]}" install --quiet --require-hashes "${requirements[@]}"
say "installing adsum from this checkout"
"${pip[@]}" install --quiet --no-deps --no-build-isolation --editable .
echo "$wanted" >"$stamp"
say "ready: .venv/bin/adsum"

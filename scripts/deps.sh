#!/usr/bin/env bash
# Installs what is used from outside Python, if it is missing.
#
#   scripts/deps.sh compile   a C compiler and Python's headers
#   scripts/deps.sh test      those, redis-server and chromium
#
# Where it cannot install (not Debian or Ubuntu, or not root), it says what is missing and goes
# on: what needs a missing program says so itself.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "deps: $*"; }

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
include=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -e "$include/Python.h" ] ||
    missing+=("$(.venv/bin/python -c 'import sysconfig; print(f"python{sysconfig.get_python_version()}-dev")')")
if [ "${1:-test}" = test ]; then
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || missing+=(chromium)
fi
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}. Install them by hand for the tests that use them."
    exit 0
elif [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        say "missing: ${missing[*]}. Run as root: apt-get install ${missing[*]}"
        exit 0
    fi
    as_root=(sudo -n)
fi
root() { "${as_root[@]+"${as_root[@]}"}" "$@"; }

# Tests start their own servers on free ports. The package would also start one on the default
# port, now and at each boot. Debian's way to say no is a policy-rc.d that answers 101; one that
# is already there is the administrator's and is left alone.
policy=/usr/sbin/policy-rc.d
allow_services() { root rm -f "$policy"; }
if [ ! -e "$policy" ]; then
    trap allow_services EXIT
    printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
    root chmod 755 "$policy"
fi

say "installing ${missing[*]} with apt-get (a minute or two)"
if root apt-get update -qq </dev/null &&
    root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null; then
    say "installed ${missing[*]}"
else
    say "apt-get failed; going on without: ${missing[*]}"
fi
if [[ " ${missing[*]} " == *" redis-server "* ]] && [ -d /run/systemd/system ]; then
    root systemctl disable --quiet redis-server || say "could not disable the redis-server service"
fi

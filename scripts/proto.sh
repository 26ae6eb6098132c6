#!/usr/bin/env bash
# Generates the message code of proto/ anew: scripts/proto.sh [FOLDER]. PYTHON chooses the interpreter.
#
# Only messages: the service is a table of six methods in the adapter. The modules land flat in one package
# (no `openim` package at top level), which works because none of our files imports another of ours.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
folder=${1:-src/adsum/proto}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

find proto -name '*.proto' | sort |
  xargs "$python" -m grpc_tools.protoc --proto_path=proto --python_out="$scratch" --pyi_out="$scratch"
find "$scratch" -type f -exec mv {} "$folder" \;

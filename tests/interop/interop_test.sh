#!/bin/bash
# Runs main.js against the programs that Bazel has built.  ./muster test writes
# node.env beforehand: `node`, the program, and `modules`, the folder that npm
# has put the vendor's packages in.
set -euo pipefail

here=tests/interop
if [[ ! -e $here/node.env ]]; then
  echo "run this as ./muster test //tests/interop:interop_test" >&2
  exit 1
fi
node='' modules=''
# shellcheck disable=SC1091  # Written by ./muster.
source "$here/node.env"

folder=$(mktemp -d "${TEST_TMPDIR:-/tmp}/interop.XXXXXX")
trap 'rm -rf "$folder"' EXIT
"$here/make_certificate" "$folder" hub.example.net localhost 127.0.0.1

# The one setting that all clients need to trust the hub.
NODE_EXTRA_CA_CERTS=$folder/cert.pem \
  NODE_PATH=$modules \
  MUSTER_INTEROP_FOLDER=$folder \
  MUSTER_PROGRAM=server/muster \
  MUSTER_DEVICES=$here/devices \
  "$node" "$here/main.js" "$@"

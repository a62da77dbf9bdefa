#!/usr/bin/env bash
# Install what the product runs but Python cannot bring: a C++ compiler with its binutils, git, and
# bubblewrap (one layer of the sandbox; the measurement protocol holds without it). Only as root and
# with apt-get; otherwise the remedy is printed and the set-up goes on.
set -eu

missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need bwrap bubblewrap
need g++ g++
need objdump binutils
need git git

if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
remedy="apt-get install ${missing[*]}"
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "install: not found: ${missing[*]}; going on without, install by: sudo $remedy" >&2
    exit 0
fi
echo "install: $remedy" >&2
export DEBIAN_FRONTEND=noninteractive
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    </dev/null >&2 || echo "install: that failed; going on without ${missing[*]}" >&2

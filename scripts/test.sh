#!/usr/bin/env bash
# Run the tests that may share the machine in parallel, then those that measure or kill processes
# alone. Both parts always run; the exit status is the first failure, and the closing line of each
# part is repeated at the end. Arguments go to both.
set -uo pipefail

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
status=0

part() {
    local name="$1"
    shift
    .venv/bin/python -m pytest "$@" 2>&1 </dev/null | tee "$logs/$name"
    local ended="${PIPESTATUS[0]}"
    if [ "$status" -eq 0 ]; then status="$ended"; fi
}

part parallel -q -n auto -m "not serial and not gpu" "$@"
part serial -q -m "serial and not gpu" "$@"
for name in parallel serial; do
    echo "$name: $(tail -n 1 "$logs/$name")"
done
exit "$status"

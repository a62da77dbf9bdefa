#!/usr/bin/env bash
# Run the tests that may share the machine in one worker more than there are processors, for many of
# them wait; then those that drive or kill processes two at a time, then those that measure alone.
# All parts always run; the exit status is the first failure, and the closing line of each part is
# repeated at the end. Arguments go to all, and may leave one of them without a test.
set -uo pipefail

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT
status=0
no_tests=5
chosen=("$@")

# Files that use a marker. Collecting all tests to run forty of them would take 20 s.
marked() {
    if [ "${#chosen[@]}" -eq 0 ]; then grep -rlE --include='test_*.py' "mark\.$1\b" tests; fi
}

part() {
    local name="$1"
    shift
    .venv/bin/python -m pytest -q "$@" "${chosen[@]}" 2>&1 </dev/null | tee "$logs/$name"
    local ended="${PIPESTATUS[0]}"
    if [ "$ended" -eq "$no_tests" ] && [ "${#chosen[@]}" -gt 0 ]; then ended=0; fi
    if [ "$status" -eq 0 ]; then status="$ended"; fi
}

workers=$(($(nproc) + 1))
by_file=(--dist loadfile --no-loadscope-reorder)
elsewhere="not gpu and not device and not long"
part parallel -n "$workers" "${by_file[@]}" -m "not processes and not timed and $elsewhere"
mapfile -t files < <(marked processes)
part processes -n 2 "${by_file[@]}" -m "processes and not timed and $elsewhere" "${files[@]}"
mapfile -t files < <(marked timed)
part timed -m "timed and $elsewhere" "${files[@]}"
for name in parallel processes timed; do
    echo "$name: $(tail -n 1 "$logs/$name")"
done
exit "$status"

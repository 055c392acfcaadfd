#!/usr/bin/env bash
# Fuzzes each target in turn, by `make fuzz`: for MINUTES each, or those that are named by TARGETS. What is found beyond the
# committed corpus stays in target/fuzz/corpus. Ends with figures, and fails where an input made a target fail.
set -euo pipefail
cd "$(dirname "$0")/../.."

minutes=${MINUTES:-2}
mapfile -t all < <(sed -n 's/^    ("\([a-z_]*\)", .*/\1/p' tests/fuzz/targets/mod.rs)
read -ra targets <<< "${TARGETS:-${all[*]}}"

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "make fuzz needs a nightly Rust, which alone can instrument: rustup toolchain install nightly" >&2
    echo "Without one, the same targets run over their corpora by: cargo test --profile quick --test fuzz" >&2
    exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing: installing it from crates.io"
    cargo install cargo-fuzz --locked
fi

export CARGO_TARGET_DIR=$PWD/target/fuzz
nice cargo +nightly fuzz build --fuzz-dir tests/fuzz
failed=0
figures=()
for target in "${targets[@]}"; do
    found=$CARGO_TARGET_DIR/corpus/$target
    log=$CARGO_TARGET_DIR/$target.log
    mkdir -p "$found"
    dictionary=tests/fuzz/dictionaries/$target.dict
    options=(-max_total_time=$((minutes * 60)) -max_len=4096 -timeout=10 -rss_limit_mb=3000 -print_final_stats=1)
    [[ ! -f $dictionary ]] || options+=("-dict=$dictionary")
    echo "$target: for $minutes minutes"
    # The first directory is the one that is written to.
    if ! nice cargo +nightly fuzz run --fuzz-dir tests/fuzz "$target" "$found" "tests/fuzz/corpus/$target" -- \
        "${options[@]}" > "$log" 2>&1; then
        failed=1
        grep -a -A4 'panicked at\|ERROR: ' "$log" | head -20 || true
        echo "$target FAILED; the input is in tests/fuzz/artifacts/$target, all that was said in $log" >&2
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    coverage=$(grep -ao 'cov: [0-9]* ft: [0-9]* corp: [0-9]*' "$log" | tail -1)
    figures+=("$target: ${executions:-no} executions, ${coverage:-no coverage}")
done
printf '%s\n' "${figures[@]}"
exit $failed

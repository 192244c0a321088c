#!/usr/bin/env bash
# Fuzzes one target after the other, each for so many seconds, and writes down in ledger.md how often it ran.
#
#   fuzz/run.sh SECONDS [TARGET...]        all of them, if none is named
#
#   HAUL_KEEP=1     afterwards, keeps in corpus/ the fewest and shortest inputs that reach what was reached
#
# Needs the nightly compiler (`rustup toolchain install nightly`) and cargo-fuzz (`cargo install --locked cargo-fuzz`).
# What it finds on the way stays in found/, for the next run. An input that fails stays in artifacts/ and is the exit
# code 1: its cause gets a test where the code lives, and it goes to corpus/ under a name that says what it was, where
# HAUL_KEEP leaves it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Longer inputs find little that shorter ones do not, and each has to be replayed.
readonly INPUT_MAX_BYTES=4096
# An input that takes longer hangs. Generous, since a machine that does something else as well is slow.
readonly HANGS_AFTER_S=60
# Of each target in corpus/: all of it has to stay below what tests/corpus.rs allows.
readonly KEPT_MAX_BYTES=16000

main() {
    local seconds=${1:-} target failed=0
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || fail 'usage: fuzz/run.sh SECONDS [TARGET...]'
    shift
    need_tools
    local targets=("$@")
    ((${#targets[@]})) || mapfile -t targets < <(cargo +nightly fuzz list --fuzz-dir .)
    for target in "${targets[@]}"; do
        [ -f "bins/$target.rs" ] || fail "there is no target $target"
        fuzz "$target" "$seconds" || failed=1
        if [ -n "${HAUL_KEEP:-}" ]; then
            keep "$target"
        fi
    done
    return "$failed"
}

fail() {
    echo "fuzz: $*" >&2
    exit 2
}

need_tools() {
    cargo +nightly --version >/dev/null 2>&1 ||
        fail 'there is no nightly compiler: rustup toolchain install nightly'
    cargo +nightly fuzz --version >/dev/null 2>&1 ||
        fail 'there is no cargo-fuzz: cargo install --locked cargo-fuzz'
}

# haul's own `unsafe` is a handful of system calls: without the address sanitizer, more is tried in the same time.
cargo_fuzz() {
    cargo +nightly fuzz run --fuzz-dir . --sanitizer none "$@"
}

# Runs a target, and adds a line to the ledger.
fuzz() {
    local target=$1 seconds=$2 log times failures=0 executions commit
    log=$(mktemp)
    mkdir -p "found/$target" "corpus/$target"
    # The processor's time, not the clock's: on a machine that does something else as well, hours say little.
    local TIMEFORMAT='%U %S'
    times=$({ time cargo_fuzz "$target" "found/$target" "corpus/$target" -- -max_total_time="$seconds" \
        -max_len="$INPUT_MAX_BYTES" -timeout="$HANGS_AFTER_S" -rss_limit_mb=2048 -print_final_stats=1 \
        >"$log" 2>&1; } 2>&1) || failures=1
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ -z "$executions" ]; then
        tail -n 30 "$log" >&2
        fail "$target did not run"
    fi
    if ((failures)); then
        grep -A 3 -e 'panicked at' -e '^SUMMARY' -e 'Test unit written' "$log" >&2 || tail -n 30 "$log" >&2
    fi
    rm -f "$log"
    commit=$(git rev-parse --short HEAD)
    [ -z "$(git status --porcelain -- ../src src)" ] || commit+=' with changes'
    printf '| %s | %s | %s | %s | %s | %s |\n' "$(date -u +%F)" "$commit" "$target" "$executions" \
        "$(awk '{ printf "%.3f", ($1 + $2) / 3600 }' <<<"$times")" "$failures" | tee -a ledger.md
    return "$failures"
}

# Puts into corpus/ what reaches all that was reached, however often, the shortest first. What has a name of its own
# stays.
keep() {
    local target=$1 merged bytes=0 input size
    merged=$(mktemp -d)
    cargo_fuzz "$target" "$merged" "corpus/$target" "found/$target" -- -set_cover_merge=1 \
        -use_counters=0 -max_len="$INPUT_MAX_BYTES" -timeout="$HANGS_AFTER_S" >/dev/null 2>&1
    find "corpus/$target" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
    while read -r size input; do
        bytes=$((bytes + size))
        ((bytes <= KEPT_MAX_BYTES)) || break
        cp "$merged/$input" "corpus/$target/$input"
    done < <(find "$merged" -type f -printf '%s %f\n' | sort -n)
    rm -rf "$merged"
    echo "$target: $(find "corpus/$target" -type f | wc -l) inputs are kept"
}

main "$@"

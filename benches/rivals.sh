#!/usr/bin/env bash
# Measures haul beside scp, an rsync daemon, and nc with openssl, in one run on this machine.
#
#     benches/rivals.sh [one-file|small-files|clients|real-tree|all] [OPTION...]
#
#     --repeats N     runs of every contender, in turn [5]
#     --disk DIR      measure in a new directory below DIR too (one-file, small-files), or there alone (the others)
#     --size-mib N    size of the one file [1024]
#     --tree DIR      the real tree [the toolchain's documentation]
#     HAUL_BIN        the program [target/release/haul]
#
# Every contender moves the same data over 127.0.0.1 into a directory that was empty before, is started once for every
# run, and is timed from the start of the command on the sending side until it says that all is there. What waits for
# it (sshd, the rsync daemon, haul recv) is listening by then. A result is the median, with the fastest and the slowest
# run beside it. Data that arrives is compared, outside the time.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. benches/contenders.sh
. tests/prove.sh

repeats=5 disk='' size_mib=1024 tree=''

main() {
    local case=all
    while (($# > 0)); do
        case $1 in
            one-file | small-files | clients | real-tree | all) case=$1 ;;
            --repeats) repeats=$2 && shift ;;
            --disk) disk=$2 && shift ;;
            --size-mib) size_mib=$2 && shift ;;
            --tree) tree=$2 && shift ;;
            *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
        esac
        shift
    done
    haul=$(realpath "${HAUL_BIN:-${CARGO_TARGET_DIR:-target}/release/haul}") || die 'run cargo build --release first'
    if [ -n "$disk" ]; then disk=$(realpath "$disk"); fi
    trap clean_up EXIT
    facts
    case $case in
        one-file | all) each_place one_file ;;&
        small-files | all) each_place small_files ;;&
        clients | all) in_place "${disk:-/dev/shm}" clients ;;&
        real-tree | all) in_place "${disk:-/dev/shm}" real_tree ;;
    esac
}

# What the numbers depend on.
facts() {
    echo "machine   $(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), load $(cut -d' ' -f1-3 /proc/loadavg)"
    echo "kernel    $(uname -sr), TCP congestion control $(cat /proc/sys/net/ipv4/tcp_congestion_control)"
    echo "commit    $(git describe --always --dirty --abbrev=12 2>/dev/null || echo unknown)"
    echo "haul      $("$haul" --version), profile $(basename "$(dirname "$haul")"), built $(date -ur "$haul" +%FT%TZ)"
    if [ -n "$(find src Cargo.lock Cargo.toml -newer "$haul" -print -quit)" ]; then
        echo '          WARNING: older than the source beside it'
    fi
    echo "rivals    $(rsync --version | head -n 1 | tr -s ' '); $(ssh -V 2>&1); $(openssl version)"
    echo "runs      $repeats of every contender, in turn (one-file, small-files)"
}

each_place() {
    in_place /dev/shm "$1"
    if [ -n "$disk" ]; then in_place "$disk" "$1"; fi
}

# Runs a case in a directory of its own, and removes that.
in_place() {
    work=$(mktemp -d "$1/haul-bench.XXXXXX")
    # Others may look inside: a case runs as another user.
    chmod 755 "$work"
    place="$1 ($(stat -fc %T "$1"))"
    times=$work/times
    : >"$times"
    cd "$work"
    "$2"
    cd /
    stop_all
    remove_work
}

# (a) One file, held in memory where the place is.
one_file() {
    title "one file of $size_mib MiB, $place"
    mkdir from to
    head -c $((size_mib << 20)) /dev/urandom >from/file
    start_sshd && start_rsyncd "$work/to"
    in_turn one_file_run haul-1 haul-auto haul-blake3-1 haul-plain-1 haul-plain-auto scp rsync nc-openssl
    summary --bytes $((size_mib << 20)) \
        --ratio 'haul-1 / max(scp, rsync): goal 1.2' --ratio 'haul-auto / max(scp, rsync): goal 1.2' \
        --ratio 'haul-blake3-1 / max(scp, rsync): goal 1.2' \
        --ratio 'haul-plain-1 / nc-openssl: goal 1' --ratio 'haul-plain-auto / nc-openssl: goal 1'
}

one_file_run() {
    case $1 in
        haul-1) haul_push from/file '' --streams 1 ;;
        haul-auto) haul_push from/file '' ;;
        haul-blake3-1) haul_push from/file '' --streams 1 --digest blake3 ;;
        haul-plain-1) haul_push from/file --plain --plain --streams 1 ;;
        haul-plain-auto) haul_push from/file --plain --plain ;;
        scp) timed scp_push from/file to/file ;;
        rsync) timed rsync_push from/file ;;
        nc-openssl) nc_push from/file to/file ;;
    esac
    cmp from/file to/file || die "$1: what arrived differs"
}

# (b) Many small files. haul syncs them by default; rsync does not, so that its time with a sync stands beside it.
small_files() {
    title "20000 files of 4 KiB, $place"
    mkdir from to
    python3 - from/tree <<'PYTHON'
import os, sys
for i in range(20_000):
    directory = f"{sys.argv[1]}/{i // 200:03}"
    if i % 200 == 0:
        os.makedirs(directory)
    with open(f"{directory}/{i:05}", "wb") as file:
        file.write(os.urandom(4096))
PYTHON
    start_rsyncd "$work/to"
    local keeps_targets=yes
    in_turn small_files_run haul haul-no-sync rsync rsync-then-sync
    summary --bytes $((20000 * 4096)) --files 20000 \
        --ratio 'haul / rsync: goal 1' --ratio 'haul-no-sync / rsync: goal 1' --ratio 'haul / rsync-then-sync: goal 1'
}

small_files_run() {
    case $1 in
        haul) haul_push from/tree '' ;;
        haul-no-sync) haul_push from/tree --no-sync ;;
        rsync) timed rsync_push from/tree ;;
        rsync-then-sync) timed rsync_push_and_sync from/tree ;;
    esac
    diff -r from/tree to/tree || die "$1: what arrived differs"
}

# (c) Many clients at once on one server.
clients() {
    local count=200 bytes=$((10 << 20)) i pid pids=() failed=0 start end
    title "$count clients at once push 10 MiB each to one server, $place"
    mkdir from to homes
    for ((i = 0; i < count; i++)); do head -c "$bytes" /dev/urandom >"from/$i"; done
    haul_server serve to
    start=$(now_us)
    for ((i = 0; i < count; i++)); do
        HAUL_HOME=$work/homes/$i timeout "$RUN_MAX_S" "$haul" --quiet send "from/$i" @ticket </dev/null &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
    end=$(now_us)
    echo "peak memory of the server: $(sed -n 's/^VmHWM:[[:space:]]*//p' "/proc/$server/status")"
    haul_server_end
    ((failed == 0)) || die "$failed of $count clients failed"
    cmp_all from to || die 'what arrived differs'
    echo "all $count arrived and verified"
    printf 'haul\t%d\n' $((end - start)) >>"$times"
    summary --bytes $((count * bytes)) --files "$count"
}

# (d) A large file and a real tree, there by send and there by get, compared in everything that haul keeps.
real_tree() {
    local source=${tree:-$(rustc --print sysroot)/share/doc}
    title "a 2 GiB file and a real tree, by send and by get, $place"
    mkdir from to
    head -c $((2 << 30)) /dev/urandom >from/2-GiB
    cp -a "$source" from/tree
    add_oddities from/tree
    echo "tree: $(find from/tree -type f -printf . | wc -c) files, $(find from/tree -type d -printf . | wc -c) directories," \
        "$(find from/tree -type l -printf . | wc -c) links, $(du -sm --apparent-size from/tree | cut -f1) MiB"
    there_and_back "as $(id -un)"
    if [ "$(id -u)" -ne 0 ]; then
        echo 'as uid 65534: skipped, only root can become it'
        return
    fi
    # It may neither reach the program where it is nor use what we have left.
    cp "$haul" haul
    rm -rf ticket* home-*
    chown -R 65534:65534 from to && chmod 1777 .
    local haul=$work/haul as=(setpriv --reuid 65534 --regid 65534 --clear-groups --)
    there_and_back 'as uid 65534'
}

there_and_back() {
    local who=$1 what verdict
    for what in 2-GiB tree; do
        haul_push "from/$what" ''
        verdict=$(prove "from/$what" "to/$what") || die "$who: send $what: what arrived differs"
        echo "$who: send $what: $(last_seconds) s, $verdict"
        clear_target
        haul_server serve --read-only from
        timed haul_get "$what" "to/$what"
        haul_server_end
        verdict=$(prove "from/$what" "to/$what") || die "$who: get $what: what arrived differs"
        echo "$who: get $what: $(last_seconds) s, $verdict"
        clear_target
    done
}

# What a real tree holds somewhere, and this one may lack.
add_oddities() {
    mkdir -p "$1/odd/empty" "$1/odd/read-only" "$1/odd/repository"
    git -C "$1/odd/repository" init -q
    echo '*.log' >"$1/odd/repository/.gitignore" && echo ignored >"$1/odd/repository/x.log"
    : >"$1/odd/nothing"
    truncate -s 8M "$1/odd/sparse"
    echo content >"$1/odd/read-only/file" && chmod 0555 "$1/odd/read-only"
    echo secret >"$1/odd/private" && chmod 0600 "$1/odd/private"
    echo script >"$1/odd/run" && chmod 0751 "$1/odd/run"
    echo bytes >"$1/odd/"$'not UTF-8 \xff\nand two lines'
    ln -s private "$1/odd/link" && ln -s ../odd "$1/odd/link-to-directory" && ln -s nowhere "$1/odd/dangling"
    touch -d '2001-02-03 04:05:06.789012345 UTC' "$1/odd/nothing" "$1/odd/empty"
}

main "$@"

#!/usr/bin/env bash
# The main job on one machine: builds haul, moves a tree from a sender to a receiver and back, and proves the copies.
#
# Sender and receiver are two processes with a state directory each, and meet on 127.0.0.1. Ends with 0 only if
# contents, names, links, modes and times agree.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tests/prove.sh

readonly TRANSFER_MAX_S=120 START_MAX_S=20
work='' waiting=''

main() {
    trap clean_up EXIT
    work=$(mktemp -d "${TMPDIR:-/tmp}/haul-main-job.XXXXXX")

    say 'building haul'
    cargo build --release --locked
    haul=$(realpath "${CARGO_TARGET_DIR:-target}/release/haul")

    say 'making a tree to send'
    make_tree "$work/here/tree"
    cd "$work"
    mkdir there back
    find here/tree -printf '%y\n' | sort | uniq -c | awk '
        BEGIN { name["f"] = "files"; name["d"] = "directories"; name["l"] = "symbolic links" }
        { printf "%s %s, ", $1, name[$2] }'
    du -sh --apparent-size here/tree | awk '{ print $1 " in all" }'

    say 'haul recv waits, haul send pushes'
    waits recv there --listen 127.0.0.1:0 --ticket-file ticket
    acts send here/tree @ticket
    end_of_waiting || fail "haul recv ended with $?"
    prove here/tree there/tree

    say 'haul serve stands, haul get pulls'
    waits serve there --read-only --listen 127.0.0.1:0 --ticket-file server-ticket
    acts get "$(path_on_server server-ticket tree)" -o back/tree
    kill -TERM "$waiting"
    end_of_waiting || [ $? -eq 130 ] || fail "haul serve did not end in order"
    prove here/tree back/tree

    say "done and verified in ${SECONDS}s"
}

# Every kind of thing that a tree may hold, some of it with awkward names.
make_tree() {
    local tree=$1
    mkdir -p "$tree"/odd/{empty-directory,read-only,.hidden}
    cp -R src "$tree/src"
    head -c $((64 << 20)) /dev/urandom >"$tree/64-MiB"
    : >"$tree/odd/empty"
    truncate -s 16M "$tree/odd/sparse"
    cd "$tree/odd"
    echo spaces >'  a name with spaces  '
    echo newline >$'two\nlines'
    echo dash >-rf
    echo bytes >$'not UTF-8 \xff\xfe'
    echo backslash >'back\slash'
    echo long >"$(printf 'n%.0s' {1..255})"
    echo hidden >.hidden/.file
    echo script >run && chmod 750 run
    echo private >private && chmod 600 private
    echo old >old && touch -d '1999-12-31 23:59:59.123456789 UTC' old
    ln -s old link
    ln -s ../src link-to-directory
    ln -s nowhere dangling
    echo inside >read-only/file && chmod 555 read-only
    cd - >/dev/null
}

# Starts the side that waits, and returns once it listens. What it says is shown when it has ended.
waits() {
    local ticket_file=${*: -1}
    echo "$ haul $*"
    HAUL_HOME=$work/home-there timeout "$TRANSFER_MAX_S" "$haul" "$@" >there.out 2>&1 &
    waiting=$!
    local deadline=$((SECONDS + START_MAX_S))
    until [ -s "$ticket_file" ]; do
        if ! kill -0 "$waiting" 2>/dev/null || ((SECONDS > deadline)); then
            cat there.out >&2
            fail "haul $1 does not listen"
        fi
        sleep 0.05
    done
}

acts() {
    echo "$ haul $*"
    HAUL_HOME=$work/home-here timeout "$TRANSFER_MAX_S" "$haul" "$@" 2>&1 | sed 's/^/    here   | /'
}

end_of_waiting() {
    local code=0
    wait "$waiting" || code=$?
    waiting=''
    # A ticket is a secret: it is not shown.
    grep -v '^haul://' there.out | sed 's/^/    there  | /'
    return "$code"
}

# The ticket in a file, with a path put behind the port; by a file again, so that it stands on no command line.
path_on_server() {
    sed "s,#,/$2#," "$1" >"$1.path"
    echo "@$1.path"
}

say() {
    printf '\n== %s\n' "$*"
}

fail() {
    echo "main job: $*" >&2
    exit 1
}

clean_up() {
    if [ -n "$waiting" ]; then
        kill -TERM "$waiting" 2>/dev/null || true
        wait "$waiting" 2>/dev/null || true
    fi
    if [ -n "$work" ]; then
        chmod -R u+rwX "$work" && rm -rf "$work"
    fi
}

main

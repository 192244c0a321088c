#!/usr/bin/env bash
# Measures what a flood of datagrams without keys costs a transfer over UDP.
#
#     benches/flood.sh [OPTION...]
#
#     --pairs N       runs without and with the flood, in turn [7]
#     --rate N        datagrams a second at the server's port [20000]
#     --size-mib N    size of the file [512]
#     HAUL_BIN        the program [target/release/haul]
#
# A file in memory goes to `haul recv` over 127.0.0.1, as often without as with datagrams of somebody else at the port of
# the flow. They look as if they belonged: the first byte of a packet, a connection and a number of chance, any length;
# one of ten is empty, two of ten are 1472 bytes. A run's flood begins before its transfer, has at most RUN_MAX_S seconds,
# and ends with the transfer. Exit 1 if more than a quarter of the goodput is lost, by the medians.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. benches/contenders.sh

repeats=7 rate=20000 size_mib=512
readonly LEAST=0.75

main() {
    while (($# > 0)); do
        case $1 in
            --pairs) repeats=$2 ;;
            --rate) rate=$2 ;;
            --size-mib) size_mib=$2 ;;
            *) sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
        esac
        shift 2
    done
    haul=$(realpath "${HAUL_BIN:-${CARGO_TARGET_DIR:-target}/release/haul}") || die 'run cargo build --release first'
    trap clean_up EXIT
    work=$(mktemp -d /dev/shm/haul-bench.XXXXXX)
    times=$work/times
    cd "$work"
    mkdir from to
    head -c $((size_mib << 20)) /dev/urandom >from/file
    echo "machine   $(nproc) cores, kernel $(uname -sr), load $(cut -d' ' -f1-3 /proc/loadavg)"
    title "$size_mib MiB over UDP, without and with $rate datagrams a second, $repeats pairs"
    in_turn run quiet flooded
    sort -n floods | awk '{ all[NR] = $1 } END { print "sent: " all[1] " to " all[NR] " datagrams a second" }'
    summary --bytes $((size_mib << 20)) --ratio "flooded / quiet: goal $LEAST" | tee result
    ! grep -q MISSED result
}

run() {
    haul_server recv to
    if [ "$1" = flooded ]; then
        flood_begins "$(sed 's,^haul://127.0.0.1:\([0-9]*\).*,\1,' ticket)"
    fi
    timed haul_send from/file --transport udp
    if [ "$1" = flooded ]; then flood_ends; fi
    wait "$server" || die "haul recv failed: $(cat server.log)"
    server=''
    cmp from/file to/file || die "$1: what arrived differs"
}

flood_begins() {
    rm -f flood.log
    python3 -c "$FLOOD" "$1" "$rate" "$RUN_MAX_S" flood.log &
    flood=$!
    started+=("$flood")
    wait_until 'the flood runs' test -e flood.log
}

# Notes the rate that it had: less than asked for is no proof.
flood_ends() {
    kill -TERM "$flood"
    wait "$flood" || true
    started=()
    awk -v least=$((rate * 9 / 10)) '$1 < least { exit 1 }' flood.log || die "the flood had only $(cat flood.log) a second"
    cat flood.log >>floods
}

readonly FLOOD='
import os, random, signal, socket, sys, time

port, rate, longest, log = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
signal.signal(signal.SIGTERM, lambda *_: sys.exit())

def datagram(place):
    length = 0 if place == 0 else 1472 if place < 3 else random.randrange(1, 1473)
    first, connection, number = 0x40 | random.getrandbits(1), os.urandom(4), random.randrange(1 << 24)
    return (bytes([first]) + connection + number.to_bytes(8, "little") + os.urandom(1472))[:length]

pool = [datagram(i % 10) for i in range(4096)]
to = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to.connect(("127.0.0.1", port))
sent, refused, begun = 0, 0, time.monotonic()
open(log, "w").close()
try:
    while (now := time.monotonic() - begun) < longest and sent < rate * longest:
        while sent < now * rate:
            try:
                to.send(pool[sent % len(pool)])
            except ConnectionRefusedError:
                refused += 1
            sent += 1
        time.sleep(0.0005)
finally:
    with open(log, "w") as out:
        print(int((sent - refused) / (time.monotonic() - begun)), file=out)
'

main "$@"

# How each contender is started, timed and ended. Sourced by rivals.sh and flood.sh, whose `work`, `haul`, `times` and
# `repeats` it uses. All that listens does so on 127.0.0.1 only, and only processes that were started here are ended.
# shellcheck shell=bash disable=SC2154

readonly RUN_MAX_S=300 START_MAX_S=20
# Under whom haul runs; empty is as we are.
as=()
# What was started and runs on.
started=()
# A haul server that runs on, and its process.
server=''

title() {
    printf '\n== %s\n' "$*"
}

die() {
    echo "$(basename "$0" .sh): $*" >&2
    exit 1
}

now_us() {
    echo "${EPOCHREALTIME/./}"
}

# Runs a function for every contender, as often as asked, in turn, beginning with another one each time.
in_turn() {
    local run=$1 i round
    shift
    local names=("$@")
    for ((round = 0; round < repeats; round++)); do
        for ((i = 0; i < ${#names[@]}; i++)); do
            contender=${names[(i + round) % ${#names[@]}]}
            clear_target
            warm_memory
            sync -f to
            "$run" "$contender"
        done
    done
    clear_target
}

# Touches as much memory as a run will fill, and frees it: what a virtual machine has freed for seconds goes back to its
# host, and the next who needs it waits for every page, up to ten times as long as for the copy itself.
warm_memory() {
    if [ "$(stat -fc %T to)" = tmpfs ]; then
        head -c "$(du -sb from | cut -f 1)" /dev/zero >to/warm && rm to/warm
    fi
}

# Makes the target empty. With `keeps_targets`, what was there is put aside until the case is over: ext4 goes around
# inodes that were freed in the last minutes, one by one, which takes seconds where many files were deleted before.
clear_target() {
    if [ -n "$keeps_targets" ]; then
        mv to "$(mktemp -d aside.XXXXXX)" && mkdir to
    else
        chmod -R u+rwX to && find to -mindepth 1 -delete
    fi
}
keeps_targets=''

# Runs a command and notes how long it took.
timed() {
    local start end
    start=$(now_us)
    "$@"
    end=$(now_us)
    printf '%s\t%d\n' "${contender:-haul}" $((end - start)) >>"$times"
}

last_seconds() {
    tail -n 1 "$times" | awk -F'\t' '{ printf "%.2f", $2 / 1e6 }'
}

# What the times say: see summary.py.
summary() {
    python3 "$summary_py" "$times" "$@"
}
summary_py=$PWD/benches/summary.py

# haul: one `recv` for one `send`. The second argument is an option for `recv`, all others are for `send`.
haul_push() {
    local source=$1 option=$2
    shift 2
    # shellcheck disable=SC2086 # no option is no argument
    haul_server recv $option to
    timed haul_send "$source" "$@"
    local code=0
    wait "$server" || code=$?
    server=''
    ((code == 0)) || die "haul recv ended with $code: $(cat server.log)"
}

haul_send() {
    HAUL_HOME=$work/home-client timeout "$RUN_MAX_S" "${as[@]}" "$haul" --quiet send "$@" @ticket </dev/null
}

haul_get() {
    sed "s,#,/$1#," ticket >ticket-of-path
    if ((${#as[@]} > 0)); then chown 65534 ticket-of-path; fi
    HAUL_HOME=$work/home-client timeout "$RUN_MAX_S" "${as[@]}" "$haul" --quiet get @ticket-of-path -o "$2" </dev/null
}

# Starts haul with a command that waits, and returns once it listens.
haul_server() {
    rm -rf ticket home-server
    HAUL_HOME=$work/home-server "${as[@]}" "$haul" "$@" --listen 127.0.0.1:0 --ticket-file ticket \
        >server.log 2>&1 </dev/null &
    server=$!
    wait_until "haul $1 listens" test -s ticket
}

haul_server_end() {
    kill -TERM "$server"
    wait "$server" || [ $? -eq 130 ] || die "haul did not end in order: $(cat server.log)"
    server=''
}

# scp, with an sshd of its own: host key, client key and configuration live in the work directory.
start_sshd() {
    local sshd
    sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd) || die 'install openssh-server'
    mkdir ssh && chmod 700 ssh
    ssh-keygen -q -t ed25519 -N '' -f ssh/host_key
    ssh-keygen -q -t ed25519 -N '' -f ssh/client_key
    cp ssh/client_key.pub ssh/authorized_keys
    ssh_port=$(free_port)
    cat >ssh/sshd_config <<CONFIG
ListenAddress 127.0.0.1:$ssh_port
HostKey $work/ssh/host_key
AuthorizedKeysFile $work/ssh/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
CONFIG
    cat >ssh/config <<CONFIG
Host 127.0.0.1
    Port $ssh_port
    IdentityFile $work/ssh/client_key
    IdentitiesOnly yes
    UserKnownHostsFile $work/ssh/known_hosts
    StrictHostKeyChecking accept-new
    BatchMode yes
CONFIG
    # Debian's sshd asks for this directory, which the service makes at boot.
    if [ "$(id -u)" -eq 0 ]; then mkdir -p /run/sshd; fi
    "$sshd" -D -e -f "$work/ssh/sshd_config" >sshd.log 2>&1 </dev/null &
    started+=($!)
    wait_until 'sshd listens' is_listening "$ssh_port"
}

scp_push() {
    timeout "$RUN_MAX_S" scp -q -F ssh/config "$1" "$(id -un)@127.0.0.1:$work/$2" </dev/null
}

# An rsync daemon that takes what it gets into a directory.
start_rsyncd() {
    rsync_port=$(free_port)
    cat >rsyncd.conf <<CONFIG
use chroot = no
reverse lookup = no
[to]
    path = $1
    read only = no
CONFIG
    if [ "$(id -u)" -eq 0 ]; then
        printf '    uid = root\n    gid = root\n' >>rsyncd.conf
    fi
    rsync --daemon --no-detach --address=127.0.0.1 --port="$rsync_port" --config=rsyncd.conf >rsyncd.log 2>&1 </dev/null &
    started+=($!)
    wait_until 'the rsync daemon listens' is_listening "$rsync_port"
}

rsync_push() {
    timeout "$RUN_MAX_S" rsync --archive "$1" "rsync://127.0.0.1:$rsync_port/to/" </dev/null
}

rsync_push_and_sync() {
    rsync_push "$1"
    sync -f to
}

# nc, with openssl reading the stream on both ends. The time ends when the file is written and both digests are there.
nc_push() {
    local port
    nc -h 2>&1 | grep -q OpenBSD || die 'install netcat-openbsd'
    port=$(free_port)
    rm -f pipe-here pipe-there && mkfifo pipe-here pipe-there
    openssl dgst -sha256 <pipe-there >digest-there &
    local digest_there=$!
    timeout "$RUN_MAX_S" nc -l 127.0.0.1 "$port" </dev/null | tee pipe-there >"$2" &
    local receiver=$!
    wait_until 'nc listens' is_listening "$port"
    timed nc_send "$1" "$port" "$receiver" "$digest_there"
    cmp digest-here digest-there || die 'nc: digests differ'
}

nc_send() {
    openssl dgst -sha256 <pipe-here >digest-here &
    local digest_here=$!
    tee pipe-here <"$1" | timeout "$RUN_MAX_S" nc -N 127.0.0.1 "$2"
    wait "$3" "$4" "$digest_here"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Whether somebody listens on this port of 127.0.0.1, by the kernel's table: a connection would be taken for the client.
is_listening() {
    grep -q "$(printf '0100007F:%04X 00000000:0000 0A' "$1")" /proc/net/tcp
}

wait_until() {
    local what=$1 deadline=$((SECONDS + START_MAX_S))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || die "waited in vain until $what: $(tail -qn 3 ./*.log)"
        sleep 0.02
    done
}

cmp_all() {
    local file
    for file in "$1"/*; do cmp "$file" "$2/${file##*/}" || return 1; done
}

# Ends what was started here, and nothing else.
stop_all() {
    local pid
    for pid in ${server:+"$server"} "${started[@]}"; do
        kill -TERM "$pid" 2>/dev/null || continue
        wait "$pid" 2>/dev/null || true
    done
    started=() server=''
}

remove_work() {
    if [ -n "${work:-}" ]; then
        chmod -R u+rwX "$work" && rm -rf "$work"
        work=''
    fi
}

clean_up() {
    stop_all
    remove_work
}

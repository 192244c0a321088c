# Proves that a file or a tree has arrived in everything that haul keeps. Sourced; `haul` is the program.
# shellcheck shell=bash disable=SC2154

# Fails, and says why, unless both agree in contents (by digest and by byte), names, kinds, link targets, modes, times.
prove() {
    local sent=$1 received=$2 why=''
    if [ -d "$sent" ]; then
        (cd "$sent" && "$haul" --quiet hash .) | (cd "$received" && sha256sum --check --strict --quiet) || why=sha256sum
    else
        [ "$(sha256sum <"$sent")" = "$(sha256sum <"$received")" ] || why=sha256sum
    fi
    diff --recursive --no-dereference "$sent" "$received" || why="$why diff"
    diff <(listing "$sent") <(listing "$received") || why="$why kinds-modes-times"
    if [ -n "$why" ]; then
        echo "$sent and $received differ by: $why" >&2
        return 1
    fi
    echo "verified: $(find "$received" -type f -printf . | wc -c) files agree by sha256sum and diff," \
        "$(listing "$received" | wc -l) entries in kind, mode, time and link target"
}

# One line for each entry below a tree and for itself: kind, mode, modification time, link target, name. A link's own
# mode means nothing.
listing() {
    find "$1" \( -type l -printf '%y - %T@ %l %P\0' \) -o -printf '%y %m %T@ %l %P\0' | tr '\0\n' '\n?' | sort
}

#!/usr/bin/env bash
# Three nodes on this machine: they find each other, one does the work of another, one is killed and comes back.
# Needs the binary (cargo build --features cli); says what it sees, and fails when it is not what it should be.
set -euo pipefail

stanchion=$(realpath "${STANCHION:-target/debug/stanchion}")
home=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$home"
}
trap finish EXIT
cd "$home"

# What every node of the cluster knows. Make your own: openssl rand -hex 32
cookie=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
# Three ports that follow each other; the first one is where the others begin.
port=$((20000 + RANDOM % 20000))

start() { # NAME PORT ACTIVITIES
    cat >"$1.toml" <<TOML
name = "$1"
listen = "127.0.0.1:$2"
seeds = ["127.0.0.1:$port"]
cookie = "$cookie"
activities = [$3]
heartbeat_ms = 200
suspect_ms = 600
lost_ms = 1200
TOML
    "$stanchion" --db "$1.redb" node start --config "$1.toml" >"$1.out" 2>&1 &
    pids+=($!)
    echo "started node $1 (process $!)"
}

ask() { # NODE WORDS...
    local node=$1
    shift
    "$stanchion" --db "$node.redb" --json "$@"
}

until_seen() { # WHAT COMMAND...
    local what=$1
    shift
    for _ in $(seq 1 300); do
        if "$@" >/dev/null 2>&1; then
            echo "$what"
            return
        fi
        sleep 0.1
    done
    echo "waited in vain: $what" >&2
    exit 1
}

ups() { [ "$(ask a node ls | grep -c '"state":"up"')" = "$1" ]; }
state_of() { ask a node ls | grep "\"node\":\"$1\"" | grep -q "\"state\":\"$2\""; }

start a "$port" '"noop"'
start b $((port + 1)) '"append", "echo"'
start c $((port + 2)) '"sleep"'
until_seen "all three see each other" ups 3

# A queue that lives on b, filled from a.
ask a job add mail '{"to": "ann"}' --node b
ask c queue show mail --node b | grep -q '"pending":1'
echo "the job is on node b"
ask c where queue@b/mail | grep -q '"exists":true'

# What was acknowledged is on b's disk: kill b, and it is back with it.
kill -9 "${pids[1]}"
until_seen "b is unreachable" state_of b unreachable
if ask a queue show mail --node b 2>error; then
    echo "a dead node answered" >&2
    exit 1
fi
grep -q 'call.unreachable' error
echo "its queue answers: unavailable, nothing is lost"
start b $((port + 1)) '"append", "echo"'
until_seen "b is back" state_of b up
ask a queue show mail --node b | grep -q '"pending":1'
echo "and the job is still there"

ask c node drain
until_seen "c has left" state_of c left
echo "done"

# The OCI runtime is a Go program at hand: its scheduler, garbage collector and signal preemption.
set -eu
runc --version > version
test -s version
runc spec
runc --root "$PWD/state" list --quiet
wc -l < config.json > lines && test -s lines
echo "go done"

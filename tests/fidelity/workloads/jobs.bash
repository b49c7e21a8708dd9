# Job control: jobs in process groups of their own, stopped and continued, process substitution, a coprocess.
set -eu -o pipefail
set -m
sleep 0.01
sleep 60 &
job=$!
# Stopped while it sleeps, for certain, and awaited when it sleeps again: then the kernel has restarted its call.
# (A call that waits for a recorder's answer looks like sleep, but for where in the kernel it waits.)
sleeps() { [[ $(< "/proc/$job/stat") == *"(sleep) S"* && $(tr -d '\0' < "/proc/$job/wchan") != *seccomp* ]]; }
until sleeps; do sleep 0.01; done
kill -STOP "$job"
until [[ $(jobs -s) == *Stopped* ]]; do sleep 0.01; done
kill -CONT "$job"
until [[ $(jobs -r) == *Running* ]] && sleeps; do sleep 0.01; done
kill -TERM "$job"
wait "$job" || echo "job ended with $?"
diff <(printf 'a\nb\n') <(printf 'a\nc\n') || echo "they differ"
coproc tr a-z A-Z
echo "through a coprocess" >&"${COPROC[1]}"
exec {COPROC[1]}>&-
cat <&"${COPROC[0]}"
printf '%s\n' {1..5} | xargs -n 2 -P 2 true
echo "bash done"

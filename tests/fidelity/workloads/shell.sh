# Pipelines, redirections, subshells, command substitution, background jobs, a trap, a here-document.
set -eu
printf 'banana\napple\ncherry\n' | sort | tr a-z A-Z > sorted
while read -r line; do echo "line $line"; done < sorted
echo "first $(head -n 1 sorted)"
(cd / && pwd)
# What the shell calls to wait depends on whether the child runs still: here it does.
sleep 0.2 & wait $!
for i in 1 2 3; do
    (exit "$i") &
    wait $! || echo "job $i ended with $?"
done
trap 'echo trapped' USR1
kill -USR1 $$
cat <<END | wc -l
one
two
END
ln -s sorted link && test -L link && rm link
umask 077
mkdir directory && mv sorted directory/ && chmod 700 directory && ls directory
echo "shell done"

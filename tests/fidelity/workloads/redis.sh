# A server with its background threads, asked over a Unix socket; a snapshot is made by a forked child.
set -eu
redis-server --port 0 --unixsocket "$PWD/redis.sock" --dir "$PWD" --save '' --daemonize no > log &
# What the shell calls to wait depends on whether the child runs still: here it does.
sleep 0.2 & wait $!
until redis-cli -s redis.sock ping > /dev/null 2>&1; do sleep 0.05; done
redis-cli -s redis.sock set key value
redis-cli -s redis.sock get key
redis-cli -s redis.sock incrby counter 41
redis-cli -s redis.sock save
redis-cli -s redis.sock shutdown nosave
wait
echo "redis done"

# Keys, a certificate, a digest, and TLS between a server and a client over a Unix socket.
set -eu
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 1 -subj /CN=test 2> /dev/null
openssl genpkey -quiet -algorithm ed25519 -out ed25519 2> /dev/null || openssl genpkey -algorithm ed25519 -out ed25519
printf 'gadget' | openssl dgst -sha256
echo "over TLS" > page
openssl s_server -unix tls.sock -key key -cert certificate -HTTP -quiet > server.log 2>&1 &
server=$!
# What the shell calls to wait depends on whether the child runs still: here it does.
sleep 0.2 & wait $!
until printf 'GET /page HTTP/1.0\r\n\r\n' | openssl s_client -unix tls.sock -quiet > answer 2> /dev/null \
    && grep -q "over TLS" answer; do sleep 0.05; done
tail -n 1 answer
kill "$server"
wait "$server" || true
echo "openssl done"

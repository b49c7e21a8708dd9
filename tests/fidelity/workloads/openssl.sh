# Keys, a certificate, a digest, and TLS between a server and a client over a Unix socket.
set -eu
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 1 -subj /CN=test 2> /dev/null
openssl genpkey -quiet -algorithm ed25519 -out ed25519 2> /dev/null || openssl genpkey -algorithm ed25519 -out ed25519
printf 'gadget' | openssl dgst -sha256
openssl s_server -unix tls.sock -key key -cert certificate -rev -quiet > server.log 2>&1 &
until [ -S tls.sock ]; do sleep 0.05; done
printf 'hello\nCLOSE\n' | openssl s_client -unix tls.sock -quiet 2> /dev/null || true
kill $!
wait $! || true
echo "openssl done"

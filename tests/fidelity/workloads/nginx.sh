# A master and a worker serve a request over a Unix socket, reload, and quit.
set -eu
mkdir -p html
echo "served by nginx" > html/index.html
cat > nginx.conf <<END
daemon off;
worker_processes 1;
pid $PWD/nginx.pid;
error_log $PWD/error.log;
events {}
http {
    access_log $PWD/access.log;
    client_body_temp_path $PWD/body;
    proxy_temp_path $PWD/proxy;
    fastcgi_temp_path $PWD/fastcgi;
    uwsgi_temp_path $PWD/uwsgi;
    scgi_temp_path $PWD/scgi;
    sendfile on;
    server { listen unix:$PWD/nginx.sock; root $PWD/html; }
}
END
if [ "$(id -u)" = 0 ]; then echo "user root;" >> nginx.conf; fi
nginx -p "$PWD" -c "$PWD/nginx.conf" -e "$PWD/error.log" &
# What the shell calls to wait depends on whether the child runs still: here it does.
sleep 0.2 & wait $!
until curl --silent --fail --output /dev/null --unix-socket nginx.sock http://server/; do sleep 0.05; done
curl --silent --unix-socket nginx.sock http://server/
curl --silent --output /dev/null --write-out '%{http_code}\n' --unix-socket nginx.sock http://server/missing
nginx -p "$PWD" -c "$PWD/nginx.conf" -e "$PWD/error.log" -s quit
wait
echo "nginx done"

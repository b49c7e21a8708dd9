"""Threads, subprocesses, a pool of worker processes, asyncio, a TCP server that is asked, a database."""

import asyncio
import http.client
import http.server
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading


def square(number):
    return number * number


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"served by a thread")

    def log_message(self, *_):
        pass


async def asynchronous():
    process = await asyncio.create_subprocess_exec("echo", "asynchronous", stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    await asyncio.sleep(0.001)
    return output.decode().strip()


def main():
    numbers, lock = [], threading.Lock()

    def add(number):
        with lock:
            numbers.append(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("threads", sum(numbers))

    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("pool", sum(pool.map(square, range(10))))
        pool.close()
        pool.join()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    client = http.client.HTTPConnection("127.0.0.1", server.server_port)
    client.request("GET", "/")
    print(client.getresponse().read().decode())
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()

    print(subprocess.run(["sh", "-c", "echo from a shell; exit 3"], stdout=subprocess.PIPE, check=False))
    print(asyncio.run(asynchronous()))

    with tempfile.TemporaryDirectory(dir=".") as directory:
        database = sqlite3.connect(os.path.join(directory, "data"))
        with database:
            database.execute("create table t (a)")
            database.executemany("insert into t values (?)", [(n,) for n in range(100)])
        print("database", database.execute("select sum(a) from t").fetchone()[0])
        database.close()

    signal.signal(signal.SIGUSR1, lambda *_: print("signal"))
    os.kill(os.getpid(), signal.SIGUSR1)
    print("python done")


main()

// A server that asks itself, files, a child process, a worker thread, compression, a timer.
'use strict';
const childProcess = require('child_process');
const fs = require('fs');
const http = require('http');
const workers = require('worker_threads');
const zlib = require('zlib');

if (!workers.isMainThread) {
  workers.parentPort.postMessage('from a worker');
  return;
}

async function main() {
  const server = http.createServer((_, response) => response.end('served by node'));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const body = await new Promise((done, failed) => {
    http.get({ port: server.address().port, host: '127.0.0.1', agent: false }, (response) => {
      let text = '';
      response.on('data', (chunk) => { text += chunk; });
      response.on('end', () => done(text));
    }).on('error', failed);
  });
  console.log(body);
  await new Promise((done) => server.close(done));

  await fs.promises.writeFile('file', 'x'.repeat(100000));
  const packed = await new Promise((done, failed) =>
    zlib.gzip(fs.readFileSync('file'), (error, data) => (error ? failed(error) : done(data))));
  console.log('unpacked', zlib.gunzipSync(packed).length);
  console.log(childProcess.execFileSync('echo', ['from a child']).toString().trim());
  const worker = new workers.Worker(__filename);
  worker.on('message', (text) => console.log(text));
  await new Promise((done) => worker.on('exit', done));
  await new Promise((done) => setTimeout(done, 5));
  console.log('node done');
}

main();

/*
 * Node's HTTP/1.1 server, saying how it understood each request: node recorder.js PORT
 * One JSON line a request goes to stdout before it is answered; bytes are written as the characters of the same
 * numbers. What Node refuses gets its status and no line. It must never change what Node read.
 */
'use strict';
const http = require('http');

const pairs = raw => raw.flatMap((name, at) => at % 2 ? [] : [[ name, raw[at + 1] ]]);

const options = { maxHeaderSize: 1 << 17, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 };
const server = http.createServer(options, (request, response) => {
  const body = [];
  request.on('data', part => body.push(part));
  request.on('end', () => {
    console.log(JSON.stringify({
      method: request.method,
      target: request.url,
      headers: pairs(request.rawHeaders),
      body: Buffer.concat(body).toString('latin1'),
      trailers: pairs(request.rawTrailers),
    }));
    response.setHeader('Content-Length', 5);
    response.end('seen\n');
  });
});
server.on('clientError', (error, socket) => {
  console.error('refused: ' + error.code + ' ' + error.message);
  if (socket.writable) socket.end('HTTP/1.1 400 Refused\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('{"ready":true,"peer":"node"}'));

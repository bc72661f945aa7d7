/*
 * Node's HTTP client with a keep-alive agent: node client.js PORT
 * Reads one case a line from stdin and prints one JSON line each. Speaks to the echo server of go-http, through
 * whatever listens on the port, and compares every answer itself.
 */
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const http = require('http');
const readline = require('readline');

const port = Number(process.argv[2]);

function call(agent, method, path, headers, write) {
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, host: '127.0.0.1', port, method, path, headers }, response => {
      const body = [];
      response.on('data', part => body.push(part));
      response.on('aborted', () => reject(new Error('the answer broke off')));
      response.on('end', () => resolve({ status: response.statusCode, reused: request.reusedSocket,
        headers: response.headers, trailers: response.trailers, body: Buffer.concat(body) }));
    });
    request.on('error', reject);
    if (write) write(request); else request.end();
  });
}

async function keepAlive(calls) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let reused = 0;
  for (let i = 0; i < calls; i++) {
    const answer = await call(agent, 'GET', `/echo?i=${i}`, { 'X-Number': i });
    const seen = JSON.parse(answer.body);
    assert.strictEqual(seen.query, `i=${i}`);
    assert.deepStrictEqual(seen.headers['X-Number'], [ String(i) ]);
    reused += answer.reused ? 1 : 0;
  }
  agent.destroy();
  return reused;
}

async function parallel(calls) {
  const agent = new http.Agent({ keepAlive: true });
  const own = await Promise.all(Array.from({ length: calls }, async (_, i) => {
    const sent = `${i}-` + 'n'.repeat(i * 97);
    const answer = await call(agent, 'POST', '/echo', {}, request => request.end(sent));
    return JSON.parse(answer.body).body === sent;
  }));
  agent.destroy();
  return own.filter(Boolean).length;
}

/** Chunked, written in parts, with a trailer. */
async function chunked(parts) {
  const agent = new http.Agent({ keepAlive: true });
  const hash = crypto.createHash('sha256');
  const answer = await call(agent, 'POST', '/echo', { 'Transfer-Encoding': 'chunked', Trailer: 'X-Parts' }, request => {
    for (let i = 0; i < parts; i++) {
      const part = Buffer.alloc(1000 + i, 97 + i % 26);
      hash.update(part);
      request.write(part);
    }
    request.addTrailers({ 'X-Parts': String(parts) });
    request.end();
  });
  agent.destroy();
  const seen = JSON.parse(answer.body);
  assert.strictEqual(seen.sha256, hash.digest('hex'));
  assert.deepStrictEqual(seen.trailers, { 'X-Parts': [ String(parts) ] });
  return seen.length;
}

/** An answer by chunks with trailers. */
async function streamed(parts) {
  const answer = await call(undefined, 'GET', `/chunked?parts=${parts}`, {});
  assert.strictEqual(answer.headers['transfer-encoding'], 'chunked');
  assert.strictEqual(answer.trailers['x-sha256'], crypto.createHash('sha256').update(answer.body).digest('hex'));
  return answer.body.length;
}

/** Leaves in the middle of an answer that many times; calls of the same agent go on. */
async function leave(times) {
  const agent = new http.Agent({ keepAlive: true });
  for (let i = 0; i < times; i++) {
    await new Promise((resolve, reject) => {
      const request = http.get({ agent, host: '127.0.0.1', port, path: '/big?bytes=4000000' }, response => {
        response.once('data', () => { request.destroy(); resolve(); });
      });
      request.on('error', reject);
    });
    const answer = await call(agent, 'GET', `/echo?left=${i}`, {});
    assert.strictEqual(JSON.parse(answer.body).query, `left=${i}`);
  }
  agent.destroy();
  return times;
}

const cases = { keepalive: keepAlive, parallel, chunked, streamed, leave };

async function main() {
  console.log('{"ready":true,"peer":"node"}');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [ name, number ] = line.split(' ');
    try {
      console.log(JSON.stringify({ case: name, ok: true, value: await cases[name](Number(number)) }));
    } catch (e) {
      console.log(JSON.stringify({ case: name, ok: false, message: String(e && e.stack) }));
    }
  }
  process.exit(0);
}
main().catch(e => { console.error(e); process.exit(1); });

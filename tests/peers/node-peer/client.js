/*
 * Node consumer of DemoService over Bolt: node client.js PORT
 * Reads one case a line from stdin and prints one JSON line each, like the Java console, until stdin ends.
 * Arguments are written as { $class, $ }, so every call is a generic one on the provider's side; sofa-rpc-node has
 * no one-way calls. Must check every echoed value itself.
 */
'use strict';
const assert = require('assert');
const readline = require('readline');
const { RpcClient } = require('sofa-rpc-node').client;

const quiet = () => {};
const logger = { info: quiet, debug: quiet, write: quiet, warn: console.error, error: console.error };
const port = Number(process.argv[2]);
const timeout = { responseTimeout: 3000 };

const string = $ => ({ $class: 'java.lang.String', $ });
const int = $ => ({ $class: 'int', $ });
const long = $ => ({ $class: 'long', $ });
const address = { city: 'Berlin', street: 'Linienstr', zip: 10119 };
const order = { id: 7, name: '\u8ba2\u5355-\u00e9', count: 41, vip: true, score: 3.25 };

function text(length) {
  let s = '';
  for (let i = 0; i < length; i++) s += i % 16 === 15 ? String.fromCharCode(0x4e00 + i % 0x5000) : String.fromCharCode(33 + i * 7 % 90);
  return s;
}

async function consumer(client, interfaceName, version) {
  const c = client.createConsumer({ interfaceName, version, serverHost: `127.0.0.1:${port}` });
  await c.ready();
  return (method, ...args) => c.invoke(method, args, timeout);
}

async function parallel(demo, calls) {
  const tally = { own: 0, other: 0, failed: 'none' };
  await Promise.all(Array.from({ length: calls }, async (_, i) => {
    const sent = `${process.pid}-${i}-${text(i * 37 % 2000)}`;
    try {
      const got = await demo('late', string(sent), long(50 + i * 7 % 50));
      tally[got === sent ? 'own' : 'other']++;
    } catch (e) {
      tally.failed = String(e);
    }
  }));
  return `own=${tally.own} other=${tally.other} failed=${tally.failed}`;
}

async function pojo(demo) {
  const answer = await demo('process', { $class: 'peer.api.Order', $: { ...order, address: { $class: 'peer.api.Address', $: address } } });
  for (const key of Object.keys(order)) assert.deepStrictEqual(answer[key], key === 'count' ? 42 : order[key], key);
  assert.deepStrictEqual({ ...answer.address }, address);
  return answer.status && answer.status.name;
}

async function bigText(demo, length) {
  const sent = text(length);
  assert.ok(await demo('echo', string(sent)) === sent, 'another text');
  return `${length} equal`;
}

async function call(on, [ name, ...w ]) {
  switch (name) {
    case 'echo': return on.demo('echo', string(w[0]));
    case 'pojo': return pojo(on.demo);
    case 'fail': return on.demo('fail', int(Number(w[0])), string(w[1]));
    case 'nothing': return on.demo('nothing');
    case 'who': return on.demo('who');
    case 'green': return on.green('who');
    case 'greenslow': return on.green('slow', long(Number(w[0])));
    case 'bigtext': return bigText(on.demo, Number(w[0]));
    case 'parallel': return parallel(on.demo, Number(w[0]));
    case 'peak': return String(await on.demo('peak'));
    case 'late': return on.demo('late', string(w[0]), long(Number(w[1])));
    case 'missing': return on.missing('ping', string('anyone'));
    default: throw new Error('no such case: ' + name);
  }
}

async function main() {
  const client = new RpcClient({ logger });
  const on = {
    demo: await consumer(client, 'peer.api.DemoService', '1.0'),
    green: await consumer(client, 'peer.api.DemoService', '1.0:green'),
    missing: await consumer(client, 'peer.api.MissingService', '1.0'),
  };
  console.log('{"ready":true,"peer":"sofa-rpc-node"}');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const words = line.split(' ');
    const start = process.hrtime.bigint();
    const us = () => Number((process.hrtime.bigint() - start) / 1000n);
    try {
      const value = await call(on, words);
      console.log(JSON.stringify({ case: words[0], ok: true, us: us(), value }));
    } catch (e) {
      console.log(JSON.stringify({ case: words[0], ok: false, us: us(), exception: e.name, message: e.message }));
    }
  }
  process.exit(0);
}
main().catch(e => { console.error(e); process.exit(1); });

/*
 * Node provider of DemoService over Bolt: node server.js PORT GREEN-PORT
 * The second port serves the same interface under the unique id "green". One process, no registry.
 * Must listen on loopback alone: sofa-rpc-node passes no host to listen(), so it is given one here.
 */
'use strict';
const net = require('net');
const { RpcServer } = require('sofa-rpc-node').server;

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function(port, ...rest) {
  return typeof port === 'number' ? listen.call(this, port, '127.0.0.1', ...rest) : listen.call(this, port, ...rest);
};

const quiet = () => {};
const logger = { info: quiet, debug: quiet, write: quiet, warn: console.error, error: console.error };
const pause = ms => new Promise(resolve => setTimeout(resolve, Number(ms)));

function demo(name) {
  let inside = 0;
  let peak = 0;
  return {
    async echo(s) { return s; },
    async fail(code, message) { throw new Error(message); },
    async nothing() { return null; },
    async who() { return name; },
    async slow(ms) { await pause(ms); return 'slept ' + ms; },
    async late(s, ms) {
      peak = Math.max(peak, ++inside);
      await pause(ms);
      inside--;
      return s;
    },
    async peak() { return peak; },
    async process(order) {
      const $ = { ...order, count: order.count + 1, address: { $class: 'peer.api.Address', $: { ...order.address } } };
      return { $class: 'peer.api.Order', $ };
    },
  };
}

async function main() {
  for (const [ name, port ] of [ [ 'blue', Number(process.argv[2]) ], [ 'green', Number(process.argv[3]) ] ]) {
    const server = new RpcServer({ logger, port });
    const uniqueId = name === 'green' ? name : undefined;
    server.addService({ interfaceName: 'peer.api.DemoService', version: '1.0', uniqueId }, demo(name));
    await server.start();
  }
  console.log('{"ready":true,"peer":"sofa-rpc-node"}');
}
main().catch(e => { console.error(e); process.exit(1); });

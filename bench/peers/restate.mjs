// Restate with a handler that does nothing and a counter, all on loopback, its data in DATA (a
// directory). Prints "READY <address of its ingress> <process id of the server> <of the handlers>" when
// both can be called, and ends with its standard input. PARTITIONS is 4 unless said: on two cores it is
// quicker with 4 than with its default of 24.
import { spawn } from 'node:child_process';
import http2 from 'node:http2';
import { createRequire } from 'node:module';
import net from 'node:net';
import * as restate from '@restatedev/restate-sdk';

// Node 20 lacks it, and the library calls it once a message.
Promise.withResolvers ??= function () {
  const both = {};
  both.promise = new this((resolve, reject) => Object.assign(both, { resolve, reject }));
  return both;
};

const counter = restate.object({
  name: 'counter',
  handlers: {
    add: async (cx, { add }) => {
      const total = ((await cx.get('total')) ?? 0) + add;
      cx.set('total', total);
      return total;
    },
  },
});
const job = restate.service({ name: 'job', handlers: { run: async (_, { add }) => add } });

// Below the ports that the system gives to outgoing connections, so that none of them is in the way.
const free = async () => {
  for (;;) {
    const port = 10240 + Math.floor(Math.random() * 20000);
    const listener = net.createServer();
    const taken = await new Promise((answer) => {
      listener.once('error', () => answer(true));
      listener.listen(port, '127.0.0.1', () => listener.close(() => answer(false)));
    });
    if (!taken) return port;
  }
};

const handlers = http2.createServer(restate.createEndpointHandler({ services: [counter, job], logger: () => {} }));
await new Promise((ready) => handlers.listen(0, '127.0.0.1', ready));
const [ingress, admin, node] = [await free(), await free(), await free()];
const { resolve } = createRequire(import.meta.url);
const program = resolve(`@restatedev/restate-server-${process.platform}-${process.arch}/bin/restate-server`);
const server = spawn(program, ['--no-logo'], {
  stdio: ['ignore', 'ignore', 2],
  env: {
    ...process.env,
    DO_NOT_TRACK: '1',
    RESTATE_DISABLE_TELEMETRY: 'true',
    RESTATE_BASE_DIR: process.env.DATA,
    RESTATE_LISTEN_MODE: 'tcp',
    RESTATE_BIND_IP: '127.0.0.1',
    RESTATE_BIND_PORT: String(node),
    RESTATE_ADVERTISED_HOST: '127.0.0.1',
    RESTATE_INGRESS__BIND_PORT: String(ingress),
    RESTATE_ADMIN__BIND_PORT: String(admin),
    RESTATE_ADMIN__DISABLE_WEB_UI: 'true',
    RESTATE_DEFAULT_NUM_PARTITIONS: process.env.PARTITIONS ?? '4',
    RESTATE_LOG_FILTER: 'warn',
  },
});
server.on('exit', () => process.exit());
process.stdin.on('end', () => server.kill()).resume();

const post = (port, path, body) => fetch(`http://127.0.0.1:${port}${path}`, {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
}).then((answer) => answer.ok, () => false);
const until = async (attempt) => {
  while (!(await attempt())) await new Promise((later) => setTimeout(later, 100));
};
await until(() => post(admin, '/deployments', { uri: `http://127.0.0.1:${handlers.address().port}` }));
await until(() => post(ingress, '/counter/first/add', { add: 1 }));
await until(() => post(ingress, '/job/run', { add: 1 }));
console.log(`READY http://127.0.0.1:${ingress} ${server.pid} ${process.pid}`);

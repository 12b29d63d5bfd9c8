// BullMQ on the Redis that REDIS_URL names: a no-op job, enqueued in bulk and processed at once.
// Prints jobs a second, three rounds. `cargo bench --bench cluster bullmq` runs it beside ours.
import { Queue, Worker } from 'bullmq';

const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const jobs = Number(process.env.JOBS ?? 20000);
const payload = { amount: 1, note: 'x'.repeat(100) };

for (let round = 1; round <= 3; round++) {
  const name = `bench-${process.pid}-${round}`;
  const queue = new Queue(name, { connection });
  let done = 0;
  let finish;
  const finished = new Promise((resolve) => (finish = resolve));
  const worker = new Worker(name, async () => {}, { connection, concurrency: 100 });
  worker.on('completed', () => { if (++done === jobs) finish(); });
  await worker.waitUntilReady();
  const begun = performance.now();
  const waiting = [];
  for (let sent = 0; sent < jobs; sent += 100) {
    const batch = Array.from({ length: 100 }, () => ({ name: 'job', data: payload, opts: { removeOnComplete: true } }));
    waiting.push(queue.addBulk(batch));
    if (waiting.length >= 16) await waiting.shift();
  }
  await Promise.all(waiting);
  await finished;
  console.log(`bullmq ${round}: ${Math.round(jobs / ((performance.now() - begun) / 1000))}/s`);
  await worker.close();
  await queue.obliterate({ force: true });
  await queue.close();
}

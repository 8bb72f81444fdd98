import assert from "node:assert/strict";
import test from "node:test";
import { Pacer, Rhythm, TARGET, mostInFlight, nextHold } from "../../assets/client/pure/pacer.js";
import { percentile } from "../../assets/client/pure/stats.js";

const stages = (model) => ({ encode: 0, denoise: model, decode: 0 });
const answerTo = (id, settled = id, more = {}) => ({ id, settled, verdict: "generated", wait: 0, stages: stages(20), ...more });

test("never more frames under way than the credit allows", () => {
  const pacer = new Pacer();
  pacer.reset(41, 2);
  assert.equal(pacer.delay(0), 0);
  assert.equal(pacer.take(0), 42);
  assert.equal(pacer.take(0), 43);
  assert.equal(pacer.delay(0), Infinity);
  pacer.answered(answerTo(42), 0);
  assert.notEqual(pacer.delay(0), Infinity);
});

test("one picture under way where the browser competes with the model for a processor, else as many as there is credit for", () => {
  for (const host of ["localhost", "127.0.0.1", "[::1]"]) assert.equal(mostInFlight(2, host, "cpu"), 1);
  assert.equal(mostInFlight(2, "127.0.0.1", "cuda:0"), 2);
  assert.equal(mostInFlight(2, "studio.example.org", "cpu"), 2);
});

test("frames settled without an answer are reported as lost, once", () => {
  const pacer = new Pacer();
  pacer.reset(-1, 3);
  for (let i = 0; i < 3; i++) pacer.take(0);
  assert.equal(pacer.answered(answerTo(2, 2), 0), 2);
  assert.equal(pacer.unsettled, 0);
  assert.equal(pacer.answered(answerTo(2, 2), 0), 0);
});

test("frames inside the stream batch are settled but not lost", () => {
  const pacer = new Pacer();
  pacer.reset(-1, 2);
  const book = (id, settled, verdict) => (pacer.take(0), pacer.answered(answerTo(id, settled, { verdict }), 0));
  assert.equal(book(0, 0, "warming"), 0);
  assert.equal(book(1, 1, "warming"), 0);
  assert.equal(book(0, 2, "generated"), 0); // frame 2 went in, frame 0 came out
  assert.equal(book(1, 3, "generated"), 0);
  assert.equal(book(2, 4, "generated"), 0);
  assert.equal(book(4, 5, "generated"), 1); // frame 3 never came out
  assert.equal(pacer.unsettled, 0);
});

test("an id that was never sent is given back", () => {
  const pacer = new Pacer();
  pacer.reset(-1, 2);
  pacer.giveBack(pacer.take(0));
  assert.equal(pacer.unsettled, 0);
  assert.equal(pacer.take(0), 0);
});

test("odd numbers never break the hold", () => {
  assert.equal(nextHold(5, Number.NaN, 30), 5);
  assert.equal(nextHold(5, 3, 0), 5);
  assert.ok(nextHold(1000, 100, 30) <= 500);
  assert.ok(nextHold(0, 1000, 30) <= 27);
});

/** A server with one model thread and a newest-wins inbox; times in ms. Returns latencies and the rate. */
function simulate({ model, travel, jitter = 0, source = 0, hold = true, fresh: wanted = false, frames = 600 }) {
  const pacer = new Pacer();
  pacer.reset(-1, 2);
  const captured = new Map();
  const latencies = [];
  let now = 0;
  let free = 0;
  let events = []; // answers on their way: { at, id, wait }
  let noise = 1;
  const random = () => (noise = (noise * 48271) % 2147483647) / 2147483647;
  let lastCapture = -Infinity;
  const rhythm = new Rhythm();
  let heard = 0; // pictures of the source that the rhythm knows of
  const listen = (until) => {
    for (; heard * source <= until; heard++) rhythm.offered(heard * source);
  };
  while (latencies.length < frames && now < 1e6) {
    const delay = hold ? pacer.delay(now) : pacer.unsettled >= 2 ? Infinity : 0;
    const fresh = source ? Math.ceil((lastCapture + 0.001) / source) * source : now;
    const next = events.length ? events[0].at : Infinity;
    let send = Math.max(now + delay, fresh);
    if (source && wanted && send < next) {
      listen(send);
      if (rhythm.patience(send)) send = rhythm.last + rhythm.interval; // in this world the next picture is punctual
    }
    if (send < next) {
      now = Math.max(now, send);
      lastCapture = source ? Math.floor((now + 1e-6) / source) * source : now;
      const id = pacer.take(lastCapture);
      captured.set(id, lastCapture);
      const arrival = now + travel * (1 + jitter * random());
      const begin = Math.max(arrival, free);
      free = begin + model * (1 + jitter * random());
      events.push({ at: free + travel, id, wait: begin - arrival });
      now += 0.01;
    } else {
      const { at, id, wait } = events.shift();
      now = at;
      latencies.push(now - captured.get(id));
      pacer.answered(answerTo(id, id, { wait, stages: stages(model) }), now);
    }
  }
  return { p50: percentile(latencies.slice(60), 0.5), p95: percentile(latencies.slice(60), 0.95), rate: (1000 * latencies.length) / now };
}

test("the hold takes the waiting out of the latency and keeps the rate", () => {
  for (const jitter of [0, 0.2]) {
    const plain = simulate({ model: 40, travel: 5, jitter, hold: false });
    const paced = simulate({ model: 40, travel: 5, jitter });
    assert.ok(paced.p50 < plain.p50 - 15, `latency ${plain.p50} -> ${paced.p50}`);
    assert.ok(paced.rate > 0.93 * plain.rate, `rate ${plain.rate} -> ${paced.rate}`);
    assert.ok(paced.p50 < (40 + 10) * (1 + jitter) + TARGET + 6, `latency ${paced.p50}`);
  }
});

test("a source slower than the model is not slowed further", () => {
  const { rate } = simulate({ model: 10, travel: 3, source: 33.3 });
  assert.ok(rate > 29, `rate ${rate}`);
});

test("waiting for a picture that is just due takes its age out of the latency and keeps the rate", () => {
  for (const model of [40, 52]) {
    const at_hand = simulate({ model, travel: 10, jitter: 0.15, source: 33.4 });
    const fresh = simulate({ model, travel: 10, jitter: 0.15, source: 33.4, fresh: true });
    assert.ok(fresh.p50 < at_hand.p50 - 8, `latency ${at_hand.p50} -> ${fresh.p50}`);
    assert.ok(fresh.p95 < at_hand.p95, `p95 ${at_hand.p95} -> ${fresh.p95}`);
    assert.ok(fresh.rate > 0.96 * at_hand.rate, `rate ${at_hand.rate} -> ${fresh.rate}`);
  }
});

test("the rhythm waits only for what is due, and not for a source that has stopped or was never heard", () => {
  const rhythm = new Rhythm();
  assert.equal(rhythm.patience(0), 0);
  rhythm.offered(1000);
  assert.equal(rhythm.patience(1010), 0); // one picture is no rhythm
  for (const at of [1033, 1066, 1099]) rhythm.offered(at);
  assert.equal(rhythm.patience(1100), 0); // fresh enough
  assert.ok(rhythm.patience(1120) > 10 && rhythm.patience(1120) < 20);
  assert.equal(rhythm.patience(1133), 0); // late: the one at hand leaves
  rhythm.offered(5000); // silence is no interval
  assert.ok(Math.abs(rhythm.interval - 33) < 1e-9);
});

import assert from "node:assert/strict";
import test from "node:test";
import { DWELL, agreement, begin, built, decide, ladder, sizeOf, smaller } from "../../assets/client/pure/hold.js";

const VALUES = { steps: 2, "gate.enabled": false, "gate.threshold": 0.98, "cache.enabled": false, "cache.interval": 3, "cache.branch": 0, "cache.policy": "interval" };

/** A reproducible noise in −1..1. */
function noise(seed) {
  let state = seed;
  return () => ((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 31) - 1;
}

/** Runs the controller on a machine that gives `fps(rung, t)` (or a likeness), with noise; looks twice a second. */
function run(goal, plant, { count = 8, rungs = Array.from({ length: count }, () => ({ size: null })), build = 0, seconds = 300, spread = 0.05, seed = 7 } = {}) {
  const random = noise(seed);
  const log = { rungs: [], changes: [] };
  let state = begin(0);
  let building = 0; // until then another size is being built
  for (let t = 0.5; t <= seconds; t += 0.5) {
    const value = plant(state.rung, t) * (1 + spread * random());
    if (t < building) {
      state = built(state, t);
      continue;
    }
    const before = rungs[state.rung].size;
    const result = decide(state, goal, value, rungs, t);
    state = result.state;
    const heavy = rungs[state.rung].size !== before;
    if (heavy) building = t + build;
    if (result.change) log.changes.push({ at: t, heavy, ...result.change });
    log.rungs.push({ t, rung: state.rung });
  }
  return log;
}

const perMinute = (changes, from) => changes.filter(({ at }) => at >= from && at < from + 60).length;
const share = (rungs, from, good) => {
  const later = rungs.filter(({ t }) => t >= from);
  return later.filter(({ rung }) => good(rung)).length / later.length;
};

test("it climbs until the rate is held, and stays", () => {
  const plant = (rung) => 10 + 3 * rung;
  const { rungs, changes } = run({ kind: "fps", value: 20 }, plant);
  assert.ok(rungs.find(({ rung }) => plant(rung) >= 20).t <= 25);
  assert.ok(share(rungs, 30, (rung) => rung >= 3) > 0.9, "it holds the rate nearly always");
  assert.ok(share(rungs, 30, (rung) => rung <= 4) > 0.9, "and gives no more picture away than it must");
  assert.ok(changes.every(({ why }) => /fps/.test(why)));
});

test("it does not oscillate: few changes a minute, fewer later, never two within the dwell", () => {
  for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
    // The goal lies between two rungs: the worst place.
    const { changes } = run({ kind: "fps", value: 20 }, (rung) => 10.7 + 3 * rung, { seconds: 600, spread: 0.12, seed });
    assert.ok(perMinute(changes, 0) <= 8, `seed ${seed}: ${perMinute(changes, 0)} in the first minute`);
    for (const minute of [1, 2, 3, 4, 5, 6, 7, 8, 9]) assert.ok(perMinute(changes, 60 * minute) <= 4, `seed ${seed}, minute ${minute}`);
    const late = changes.filter(({ at }) => at >= 300).length / 5;
    assert.ok(late <= 1.6, `seed ${seed}: ${late} a minute after five minutes`);
    changes.slice(1).forEach(({ at }, index) => assert.ok(at - changes[index].at >= DWELL));
  }
});

test("it follows a machine that becomes slower, and one that recovers", () => {
  const busy = (t) => (t > 60 && t < 120 ? 0.6 : 1);
  const { rungs } = run({ kind: "fps", value: 20 }, (rung, t) => (16 + 4 * rung) * busy(t), { seconds: 400, spread: 0.03 });
  assert.ok(rungs.find(({ t, rung }) => t > 60 && rung >= 4).t < 85);
  assert.ok(share(rungs, 300, (rung) => rung <= 1) > 0.9);
});

test("a goal out of reach ends on the last rung without a flurry", () => {
  const { rungs, changes } = run({ kind: "fps", value: 60 }, (rung) => 5 + rung, { count: 5, seconds: 200 });
  assert.equal(rungs.at(-1).rung, 4);
  assert.ok(changes.length <= 4);
});

test("holding a likeness goes as fast as that allows", () => {
  const { rungs } = run({ kind: "quality", value: 0.95 }, (rung) => 1 - 0.02 * rung, { spread: 0.002 });
  assert.ok(share(rungs, 60, (rung) => rung === 2) > 0.85);
});

test("without figures nothing moves", () => {
  const state = begin(0);
  assert.deepEqual(decide(state, { kind: "fps", value: 20 }, null, [{}, {}], 100), { state, change: null });
});

/** Rungs 0 to 3 of the present size and two smaller ones, and a machine whose model takes time by its pixels. */
const SIZED = ["512x512", "512x512", "512x512", "512x512", "384x384", "256x256"].map((size) => ({ size }));
const rate = (rung, speed = 1) => {
  const side = Number(SIZED[rung].size.split("x")[0]);
  return (1000 * speed) / (12 + (48 - 4 * Math.min(rung, 3)) * (side / 512) ** 2);
};

test("the size goes down when nothing else is left, and up again when the machine is free", () => {
  const busy = (t) => (t < 200 ? 0.7 : 1.6);
  const { rungs, changes } = run({ kind: "fps", value: 20 }, (rung, t) => rate(rung, busy(t)), { rungs: SIZED, build: 6, seconds: 900 });
  assert.ok(rate(3, busy(0)) < 20 && rate(4, busy(0)) > 20 && rate(0, busy(300)) > 20);
  assert.ok(share(rungs.filter(({ t }) => t < 200), 60, (rung) => rung === 4) > 0.85);
  assert.ok(share(rungs, 600, (rung) => rung === 0) > 0.9);
  assert.ok(changes.filter(({ heavy }) => heavy).length <= 4);
});

test("another size is not built again and again: bounded in every minute, rarer later", () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    // The goal lies between two sizes: the worst place.
    const { changes } = run({ kind: "fps", value: 22 }, (rung) => rate(rung, 0.8), { rungs: SIZED, build: 6, seconds: 1200, spread: 0.1, seed });
    const heavy = changes.filter((change) => change.heavy);
    assert.ok(heavy.length >= 1 && rate(3, 0.8) < 22 && rate(4, 0.8) > 22);
    for (let from = 0; from < 1140; from += 10) assert.ok(perMinute(heavy, from) <= 2, `seed ${seed}: ${perMinute(heavy, from)} in the minute from ${from}`);
    assert.ok(heavy.filter(({ at }) => at >= 600).length <= 5, `seed ${seed}: ${heavy.map(({ at }) => at)}`);
  }
});

test("a short dip builds nothing", () => {
  const dip = (t) => (t > 60 && t < 68 ? 0.5 : 1);
  const { changes } = run({ kind: "fps", value: 18 }, (rung, t) => rate(rung, dip(t)), { rungs: SIZED, build: 6, seconds: 120 });
  assert.ok(changes.every(({ heavy }) => !heavy));
});

test("what becomes of a size that is wanted", () => {
  const held = { wanted: "384x384", agreed: "512x512", asked: null };
  assert.equal(agreement({ ...held, wanted: null }, "512x512", false), "go");
  assert.equal(agreement(held, "512x512", false), "ask");
  assert.equal(agreement({ ...held, asked: "384x384" }, "512x512", true), "wait");
  assert.equal(agreement({ ...held, asked: "384x384" }, "512x512", false), "refused");
  assert.equal(agreement({ ...held, asked: "384x384" }, "384x384", false), "go");
  assert.equal(agreement(held, "640x640", false), "ended");
});

test("smaller sizes keep the shape and stay useful", () => {
  assert.deepEqual(smaller({ width: 512, height: 512 }), ["384x384", "256x256"]);
  assert.deepEqual(smaller({ width: 768, height: 512 }), ["576x384", "384x256"]);
  assert.deepEqual(smaller({ width: 256, height: 256 }), []);
  assert.deepEqual(smaller({ width: 320, height: 320 }), ["256x256"]);
  assert.equal(sizeOf({ width: 576, height: 384 }), "576x384");
});

test("every rung is faster than the one before, and restores what others have moved", () => {
  const rungs = ladder(VALUES, ["512x512", "384x384"]);
  assert.deepEqual(rungs[0].patch.steps, 2);
  assert.equal(rungs[1].patch.steps, 1);
  assert.ok(rungs.every(({ patch }) => !Object.keys(patch).some((key) => key.startsWith("gate."))), "repeated pictures meet no goal");
  assert.deepEqual([rungs[0].size, rungs.at(-2).size, rungs.at(-1).size], ["512x512", "512x512", "384x384"]);
  assert.ok(ladder(VALUES).every(({ size }) => size === null));
  const keys = Object.keys(VALUES).filter((key) => key in rungs.at(-1).patch);
  for (const { patch } of rungs) assert.ok(keys.every((key) => key in patch));
  const cached = ladder({ ...VALUES, steps: 1, "gate.enabled": true, "cache.enabled": true });
  assert.ok(cached.every(({ patch }) => (patch["cache.interval"] ?? 3) >= 3), "it never undoes what the user has chosen");
  const places = (values) => ladder({ ...VALUES, ...values }).flatMap(({ patch }) => (patch["cache.enabled"] ? [[patch["cache.branch"], patch["cache.interval"]].join("/")] : []));
  const moved = (values) => [...new Set(places(values))];
  assert.deepEqual(moved({}), ["2/2", "1/3", "1/4", "1/6", "0/6"]);
  assert.deepEqual(moved({ "cache.enabled": true, "cache.branch": 1 }), ["1/3", "1/4", "1/6", "0/6"], "the first are the user's own");
  assert.deepEqual(moved({ "cache.enabled": true, "cache.branch": 0 }), ["0/3", "0/4", "0/6"]);
});

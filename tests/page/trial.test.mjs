import assert from "node:assert/strict";
import test from "node:test";
import { Trial, age, effectWords, sides } from "../../assets/client/pure/trial.js";

const answer = (verdict, ms, quality = null) => ({ verdict, quality, stages: { encode: ms / 4, denoise: ms / 2, decode: ms / 4 } });

/** Plays a stream of 20 frames a second through a trial; `cost(on, n, t)` gives [verdict, ms, ssim]. */
function play(cost) {
  const trial = new Trial();
  const order = [];
  let now = 0;
  for (let n = 0; !trial.done; n++) {
    assert.ok(n < 5000, "it ends");
    const [verdict, ms, ssim] = cost(trial.on, n, now);
    if (order.at(-1) !== trial.index) order.push(trial.index);
    trial.add(answer(verdict, ms, ssim === undefined ? null : { ssim }), (now += 50));
  }
  return { trial, now };
}

test("the difference of two costs is found, skipped frames counted as free", () => {
  const { trial } = play((on, n) => (on ? [n % 2 ? "cached" : "generated", n % 2 ? 20 : 40, 0.97] : ["generated", 40]));
  const { ms, spread, ssim } = trial.result();
  assert.ok(Math.abs(ms + 10) < 0.6, ms);
  assert.ok(spread < 0.6);
  assert.ok(Math.abs(ssim - 0.97) < 1e-9);
  const gate = play((on, n) => (on && n % 4 ? ["skipped", 0] : ["generated", 40])).trial.result();
  assert.ok(Math.abs(gate.ms + 30) < 2, gate.ms);
  assert.equal(gate.ssim, null);
});

test("a machine that slowly becomes slower does not look like an effect", () => {
  const { trial } = play((_, n, t) => ["generated", 40 + t / 1000]);
  assert.ok(Math.abs(trial.result().ms) < 0.2, trial.result().ms);
});

test("what is dropped or warming says nothing, and slow streams end too", () => {
  const trial = new Trial();
  for (let n = 0; n < 100; n++) trial.add(answer("dropped", 0), n * 50);
  assert.equal(trial.index, 0);
  let now = 0;
  for (let n = 0; n < 200 && !trial.done; n++) trial.add(answer("generated", 900), (now += 1000));
  assert.ok(trial.done && now < 100000);
});

test("only what can be switched is measured", () => {
  assert.deepEqual(sides("cache", {}), [{ "cache.enabled": true }, { "cache.enabled": false }]);
  assert.deepEqual(sides("consistency", {}), [{ "consistency.enabled": true }, { "consistency.enabled": false }]);
  assert.deepEqual(sides("partial", {}), [{ "partial.enabled": true }, { "partial.enabled": false }]);
  assert.equal(sides("stream_batch", { steps: 1 }), null);
  assert.ok(sides("stream_batch", { steps: 2 }));
  assert.equal(sides("guidance", { guidance_mode: "none" }), null);
  assert.deepEqual(sides("guidance", { guidance_mode: "self" })[1], { guidance_mode: "none" });
  assert.equal(sides("noise", {}), null);
});

test("an effect says how old it is", () => {
  assert.equal(effectWords({ ms: -11.23, spread: 0.4, ssim: 0.9712, at: 0 }, 120000), "−11.2 ± 0.4 ms a frame, SSIM 0.971, 2 min ago");
  assert.equal(effectWords({ ms: 8, spread: 0, ssim: null, at: 0 }, 1000), "+8.0 ± 0.0 ms a frame, just now");
  assert.equal(age(42000), "42 s ago");
  assert.equal(age(7200000), "2 h ago");
});

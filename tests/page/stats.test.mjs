import assert from "node:assert/strict";
import test from "node:test";
import { Stats, percentile } from "../../assets/client/pure/stats.js";
import { STAGES } from "../../assets/client/wire/protocol.js";

const stages = (denoise) => Object.fromEntries(STAGES.map((stage) => [stage, stage === "denoise" ? denoise : 1]));
const answer = (verdict, denoise = 10) => ({ verdict, stages: stages(denoise), wait: 2, quality: null });

test("percentile is the nearest rank, whatever the order", () => {
  const values = [5, 1, 4, 2, 3];
  assert.equal(percentile(values, 0.5), 3);
  assert.equal(percentile(values, 0.95), 5);
  assert.equal(percentile([7], 0.05), 7);
  assert.equal(percentile([], 0.5), null);
  assert.deepEqual(values, [5, 1, 4, 2, 3]);
});

test("verdicts are counted apart; shown holds new pictures alone: what the gate shows again is no new one", () => {
  const stats = new Stats(4000);
  stats.clear(0);
  const verdicts = ["generated", "generated", "cached", "skipped", "dropped", "warming", "failed"];
  verdicts.forEach((verdict, index) => stats.answered(100 * index, answer(verdict), 1000));
  stats.shown(10, 40, 3);
  stats.left(5, 2000, 8);
  stats.shown(110, 60, 5);
  stats.shown(210, 80, 4);
  stats.lost(700, 2);
  const { counts, rates, output_fps, new_fps, latency, down, up, before, after, stages: medians } = stats.summary(2000);
  assert.deepEqual(counts, { generated: 2, cached: 1, skipped: 1, warming: 1, dropped: 3, failed: 1 });
  assert.deepEqual([rates.generated, rates.cached, output_fps, new_fps], [1, 0.5, 2, 1.5]);
  assert.deepEqual(latency, { p50: 60, p95: 80 });
  assert.equal(down, 3500);
  assert.deepEqual([up, before, after], [1000, 8, 4]);
  assert.equal(medians.denoise, 10);
});

test("what is older than the window is forgotten", () => {
  const stats = new Stats(1000);
  stats.clear(0);
  stats.answered(100, answer("generated"), 10);
  stats.shown(100, 50, 1);
  stats.left(100, 99, 1);
  stats.offered(100);
  const later = stats.summary(5000);
  assert.equal(later.counts.generated, 0);
  assert.equal(later.latency.p50, null);
  assert.equal(later.up, 0);
  assert.equal(later.input_fps, 0);
});

test("stage medians come from pictures that the model made, not from skips", () => {
  const stats = new Stats();
  stats.clear(0);
  stats.answered(1, answer("generated", 30), 0);
  for (let i = 0; i < 9; i++) stats.answered(2, answer("skipped", 0), 0);
  assert.equal(stats.summary(1000).stages.denoise, 30);
});

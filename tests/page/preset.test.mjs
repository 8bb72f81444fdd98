import assert from "node:assert/strict";
import { test } from "node:test";

import { presetOf, presetWords } from "../../assets/client/pure/preset.js";

const PRESETS = [
  { name: "fast", settings: { "cache.enabled": true, "cache.pattern": "dss" }, cost: 0.314, ssim: 0.9712 },
  { name: "fine", settings: { "cache.enabled": true, "cache.pattern": "d" }, cost: 0.6, ssim: 0.9956 },
];

test("a preset stands while all of its settings do, whatever else is set", () => {
  assert.equal(presetOf(PRESETS, { "cache.enabled": true, "cache.pattern": "d", steps: 4 }), "fine");
  assert.equal(presetOf(PRESETS, { "cache.enabled": false, "cache.pattern": "d" }), "");
  assert.equal(presetOf(PRESETS, {}), "");
  assert.equal(presetOf([], { "cache.enabled": true }), "");
});

test("its words have the measured figures", () => {
  assert.equal(presetWords(PRESETS[0]), "31% of the network's work for each frame, likeness to full passes 0.971 on moving clips.");
});

import assert from "node:assert/strict";
import test from "node:test";
import { fromHash, toHash } from "../../assets/client/pure/settings.js";

const FIELDS = {
  prompt: { kind: "text", limit: 50, default: "oil" },
  strength: { kind: "number", low: 0, high: 1, default: 0.5 },
  seed: { kind: "integer", low: 0, high: 2 ** 32 - 1, default: 0 },
  "gate.enabled": { kind: "flag", default: false },
  "cache.policy": { kind: "choice", options: ["interval", "adaptive"], default: "interval" },
};
const DEFAULTS = Object.fromEntries(Object.entries(FIELDS).map(([key, field]) => [key, field.default]));

test("what differs from the defaults survives the link, whatever it holds", () => {
  const values = { prompt: "día & nacht=#?%, 水", strength: 0.73, seed: 4294967295, "gate.enabled": true, "cache.policy": "adaptive" };
  assert.deepEqual(fromHash(`#${toHash(values, FIELDS)}`, FIELDS), values);
  assert.equal(toHash(DEFAULTS, FIELDS), "");
  assert.equal(toHash({ ...DEFAULTS, strength: 0.4 }, FIELDS), "strength=0.4");
});

test("a link from elsewhere does no harm", () => {
  assert.deepEqual(fromHash("#strength=9&seed=abc&gate.enabled=maybe&cache.policy=none&__proto__=1&constructor=2&new=3", FIELDS), { strength: 1 });
  assert.deepEqual(fromHash("", FIELDS), {});
});

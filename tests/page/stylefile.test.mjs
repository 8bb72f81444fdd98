import assert from "node:assert/strict";
import test from "node:test";
import { fitWords } from "../../assets/client/pure/stylefile.js";
import { alike, fitName, readStyle, renamed } from "../../assets/client/pure/stylefile.js";

const FILE = Uint8Array.from(Buffer.from(process.env.RILL_STYLE_HEX, "hex")); // written by the server's code

test("a style's file is read; anything else is none", () => {
  const { name, picture, licence, fitted, tile } = readStyle(FILE);
  assert.deepEqual([name, picture, licence, fitted, [...tile]], ["rote Wellen é", "a sea", "public domain", 60, [255, 216, 1]]);
  for (const wrong of [[], [1, 2, 3], new Array(40).fill(123), FILE.subarray(0, 60)]) assert.equal(readStyle(Uint8Array.from(wrong)), null);
  const other = { "__metadata__": { format: "pt" }, w: { dtype: "F32", shape: [0], data_offsets: [0, 0] } };
  const json = new TextEncoder().encode(JSON.stringify(other));
  assert.equal(readStyle(Uint8Array.from([json.length, 0, 0, 0, 0, 0, 0, 0, ...json])), null); // a LoRA
});

test("another name changes nothing but the name", () => {
  const changed = renamed(FILE, "grüne Wellen");
  assert.deepEqual({ ...readStyle(changed), name: "" }, { ...readStyle(FILE), name: "" });
  assert.equal(readStyle(changed).name, "grüne Wellen");
  assert.ok(alike(changed, FILE));
  const other = Uint8Array.from(FILE);
  other[other.length - 1] ^= 1;
  assert.ok(!alike(other, FILE));
});

test("a name is short and printable", () => {
  assert.equal(fitName("  red\n\t waves\u0000\u202e "), "red waves");
  assert.equal(fitName(" \u00a0 "), "");
  assert.equal([...fitName("🌊".repeat(80))].length, 60);
});

test("how a fit stands", () => {
  const half = { state: "fitting", done: 0.352, gain: 0.28, share: 0.5 };
  assert.deepEqual(fitWords(half, true), { share: 0.352, words: "fitting: 35%, 28% nearer, uses half of a core", more: "Stop" });
  assert.match(fitWords({ ...half, share: 0.2 }, true).words, /uses 20% of a core$/);
  const first = fitWords({ state: "fitting", done: 0, gain: 0, share: 0 }, true);
  assert.deepEqual([first.share, first.more], [0, "Stop"]);
  assert.match(first.words, /^the fit starts: .* loads the model/, "figures that nobody has measured yet say nothing");
  assert.match(fitWords({ state: "waiting", place: 1 }, true).words, /^waits for another picture /);
  assert.match(fitWords({ state: "waiting", place: 3 }, true).words, /^waits for 3 other pictures /);
  assert.match(fitWords({ state: "failed", message: "not enough memory" }, true).words, /not enough memory\. The best/);
  assert.deepEqual(fitWords({ state: "stopped" }, false).more, "Go on");
  for (const none of [fitWords(null, true), fitWords({ state: "stopped" }, true)]) assert.deepEqual(none, { share: null, words: "", more: "" });
});

// The spec control: what it shows is what was acknowledged, whatever was asked for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { messages } from "../../assets/client/wire/protocol.js";
import { Respec } from "../../assets/client/pure/respec.js";
import { called, sizes, weighed } from "../../assets/client/parts/spec.js";

const SPEC = { model: "pocket", width: 512, height: 512, backend: "openvino", dtype: "bfloat16" };
const CHANGE = { model: ["pocket"], backend: ["openvino", "eager"], dtype: ["bfloat16"] };

function begun(send = () => true) {
  const sent = [];
  const respec = new Respec({ send: (changes, request) => send() && sent.push({ changes, request }) });
  respec.welcome({ spec: SPEC, change: CHANGE });
  return { respec, sent };
}

test("nothing is shown before it is acknowledged", () => {
  const { respec, sent } = begun();
  respec.ask({ backend: "eager" });
  assert.deepEqual(sent.map(({ changes }) => changes), [{ backend: "eager" }]);
  assert.equal(respec.spec.backend, "openvino");
  respec.building({ request: sent[0].request, elapsed_s: 3.2 });
  assert.match(respec.words, /3 s/);
  respec.done({ spec: { ...SPEC, backend: "eager" }, adjusted: {} });
  assert.equal(respec.spec.backend, "eager");
  assert.equal(respec.words, "");
});

test("one change at a time, and none for what runs already", () => {
  const { respec, sent } = begun();
  respec.ask({ width: 512, height: 512 });
  assert.equal(sent.length, 0);
  respec.ask({ width: 256, height: 256 });
  respec.ask({ backend: "eager" });
  assert.equal(sent.length, 1);
});

test("a refusal leaves what was acknowledged and says why", () => {
  const { respec, sent } = begun();
  respec.ask({ width: 1024, height: 1024 });
  assert.equal(respec.failed({ request: sent[0].request - 1, message: "another's" }), false);
  assert.equal(respec.failed({ message: "of no request" }), false);
  assert.equal(respec.failed({ request: sent[0].request, message: "needs about 9 GB; 2 GB are free" }), true);
  assert.equal(respec.spec.width, 512);
  assert.match(respec.words, /9 GB/);
  respec.ask({ backend: "eager" });
  assert.equal(sent.length, 2);
  assert.ok(sent[1].request > sent[0].request);
});

test("what lay under way is forgotten with the connection", () => {
  const { respec, sent } = begun();
  respec.ask({ backend: "eager" });
  respec.welcome({ spec: SPEC, change: { ...CHANGE, refused: "a public server" } });
  assert.equal(respec.asked, false);
  assert.equal(respec.words, "a public server");
  assert.equal(respec.failed({ request: sent[0].request, message: "late" }), false);
});

test("while nobody listens nothing is asked", () => {
  const { respec } = begun(() => false);
  respec.ask({ backend: "eager" });
  assert.equal(respec.asked, false);
});

test("settings that were lowered are named, and another's change is followed", () => {
  const { respec } = begun();
  respec.done({ spec: { ...SPEC, width: 256 }, adjusted: { steps: "4 is out of range" } });
  assert.equal(respec.spec.width, 256);
  assert.equal(respec.words, "steps: 4 is out of range");
});

test("sizes hold squares, the usual shapes in both directions, and what runs; all are near their shape and can be built", () => {
  const all = sizes(SPEC);
  assert.deepEqual(new Set(all.map(([, words]) => words.match(/\((.*)\)/)?.[1])), new Set([undefined, "4:3", "3:4", "16:9", "9:16"]));
  for (const [value, words] of all) {
    const [width, height] = value.split("x").map(Number);
    const [w, h] = (words.match(/\((.*)\)/)?.[1] ?? "1:1").split(":").map(Number);
    assert.ok(width % 64 === 0 && height % 64 === 0 && Math.abs((width * h) / (height * w) - 1) < 0.02, words);
  }
  assert.deepEqual(sizes({ width: 384, height: 256 })[0], ["384x256", "384 × 256"]);
});

test("the message", () => {
  assert.deepEqual(JSON.parse(messages.spec({ width: 256 }, 7)), { type: "spec", spec: { width: 256 }, request: 7 });
});

test("a LoRA is added, weighed in its place, and removed", () => {
  const two = [{ name: "a", weight: 1 }, { name: "b", weight: 0.5 }];
  assert.deepEqual(weighed(two, "a", 0.25), [{ name: "a", weight: 0.25 }, { name: "b", weight: 0.5 }]);
  assert.deepEqual(weighed(two, "c", 1), [...two, { name: "c", weight: 1 }]);
  assert.deepEqual(weighed(two, "a", null), [{ name: "b", weight: 0.5 }]);
  assert.equal(called("/loras/ink wash.safetensors"), "ink wash");
  assert.equal(called("/models/sd15+control=/nets/canny+picture=/nets/adapter"), "sd15 + canny + adapter");
  assert.equal(called("sd-turbo+/loras/ink.safetensors:0.8"), "sd-turbo + ink:0.8");
});

test("the same LoRAs are not asked for again", () => {
  const { respec, sent } = begun();
  const loras = [{ name: "a", weight: 1 }];
  respec.welcome({ spec: { ...SPEC, loras }, change: CHANGE });
  respec.ask({ loras: [{ name: "a", weight: 1 }] });
  assert.equal(sent.length, 0);
  respec.ask({ loras: weighed(loras, "a", 0.5) });
  assert.deepEqual(sent[0].changes, { loras: [{ name: "a", weight: 0.5 }] });
});

test("the boxes close while others are there and open again when they have gone", () => {
  const { respec } = begun();
  const seen = [];
  respec.changed = () => seen.push([respec.refused, respec.words]);
  for (const refused of [null, "2 visitors share it", "2 visitors share it", null, undefined]) respec.permit(refused);
  assert.deepEqual(seen, [["2 visitors share it", "2 visitors share it"], ["", ""]]);
});

import assert from "node:assert/strict";
import test from "node:test";
import { inOrder } from "../../assets/client/flow/later.js";
import { View } from "../../assets/client/flow/view.js";
import { SettingsStore } from "../../assets/client/pure/settings.js";
import { Shared } from "../../assets/client/pure/shared.js";

const FIELDS = { prompt: { kind: "text", limit: 80, default: "" }, steps: { kind: "integer", low: 1, high: 8, default: 1 } };

function store() {
  const sent = [];
  const settings = new SettingsStore({ send: (patch, request) => sent.push({ patch, request }), later: (call) => call(), cancel: () => {} });
  settings.welcome({ version: 1, values: { prompt: "", steps: 1 } }, FIELDS);
  return { settings, sent };
}

test("a patch that is refused for one setting leaves the others on their way", () => {
  const { settings, sent } = store();
  settings.set("prompt", "first"); // under way
  settings.set("prompt", "second");
  settings.set("steps", 8); // one patch with the second
  settings.acknowledged({ version: 2, values: { prompt: "first", steps: 1 }, request: sent[0].request });
  assert.deepEqual(sent[1].patch, { prompt: "second", steps: 8 });
  settings.failed({ request: sent[1].request, field: "steps", message: "steps: too many" });
  assert.deepEqual(sent[2]?.patch, { prompt: "second" });
  assert.equal(settings.wanted().steps, 1);
});

test("a patch that is refused without a field is not sent again", () => {
  const { settings, sent } = store();
  settings.set("prompt", "one");
  settings.failed({ request: sent[0].request, message: "no" });
  assert.equal(sent.length, 1);
});

test("settings that two parts move return with the last of them, in any order", () => {
  for (const order of [["wipe", "trial"], ["trial", "wipe"]]) {
    const values = { "probe.enabled": false, "probe.every": 8 };
    const shared = new Shared({ wanted: () => ({ ...values }), put: (key, value) => (values[key] = value) });
    shared.take("wipe", { "probe.enabled": true });
    shared.take("trial", { "probe.enabled": true, "probe.every": 4 });
    shared.give(order[0]);
    assert.equal(values["probe.enabled"], true);
    shared.give(order[1]);
    shared.give(order[1]);
    assert.deepEqual(values, { "probe.enabled": false, "probe.every": 8 });
  }
});

test("works are done in the order of their coming, also after one that fails", async () => {
  const [ordered, done, ends] = [inOrder(), [], []];
  const work = (name) => ordered(() => new Promise((resolve, reject) => (ends.push({ resolve, reject }), done.push(name))));
  const [first, second] = [work("large"), work("small")];
  await null;
  assert.deepEqual(done, ["large"]);
  ends[0].reject(new Error("broken"));
  await assert.rejects(first, /broken/);
  await null;
  assert.deepEqual(done, ["large", "small"]);
  ends[1].resolve("read");
  assert.equal(await second, "read");
});

test("a picture that is still decoded when another session begins does not hold its pictures back", async () => {
  const shown = [];
  const view = new View({ width: 4, height: 4, getContext: () => ({ drawImage: ({ id }) => shown.push(id) }) });
  const decoded = [];
  globalThis.createImageBitmap = () => new Promise((resolve) => decoded.push((id) => resolve({ id, close: () => {} })));
  const old = view.show({ id: 5000, picture: new Uint8Array(1), mime: "image/jpeg" });
  view.reset(-1, 4, 4);
  const next = view.show({ id: 0, picture: new Uint8Array(1), mime: "image/jpeg" });
  decoded[0](5000);
  decoded[1](0);
  assert.deepEqual([await old, await next], [false, true]);
  assert.deepEqual(shown, [0]);
});

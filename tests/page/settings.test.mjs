import assert from "node:assert/strict";
import test from "node:test";
import { SettingsStore, coerce, entry } from "../../assets/client/pure/settings.js";

const FIELDS = {
  prompt: { kind: "text", limit: 10 },
  strength: { kind: "number", low: 0, high: 1 },
  steps: { kind: "integer", low: 1, high: 8 },
  "gate.enabled": { kind: "flag" },
  mode: { kind: "choice", options: ["a", "b"] },
};
const VALUES = { prompt: "oil", strength: 0.5, steps: 1, "gate.enabled": false, mode: "a" };

/** A store whose timers run by hand and whose line can be cut. */
function stage() {
  const log = { sent: [], changed: [], refused: [], settled: 0 };
  const timers = new Map();
  let number = 0;
  const store = new SettingsStore({
    send: (patch, request) => log.online !== false && (log.sent.push({ patch, request }), true),
    changed: (keys) => log.changed.push(keys),
    settled: () => (log.settled += 1),
    refused: (field, message) => log.refused.push([field, message]),
    later: (callback, ms) => (timers.set(++number, { callback, ms }), number),
    cancel: (id) => timers.delete(id),
  });
  const run = () => {
    for (const [id, { callback }] of [...timers]) {
      timers.delete(id);
      callback();
    }
  };
  store.welcome({ version: 0, values: { ...VALUES } }, FIELDS);
  log.changed.length = log.settled = 0;
  return { store, log, run, timers };
}

test("several moves before the answer become one patch, and the last one wins", () => {
  const { store, log, run } = stage();
  store.set("strength", 0.6);
  store.set("strength", 0.7);
  store.set("steps", 3);
  run();
  assert.deepEqual(log.sent, [{ patch: { strength: 0.7, steps: 3 }, request: 1 }]);
  store.set("strength", 0.8);
  run();
  assert.equal(log.sent.length, 1, "one patch at a time");
  store.acknowledged({ version: 1, values: { ...VALUES, strength: 0.7, steps: 3 }, request: 1 });
  run();
  assert.deepEqual(log.sent[1].patch, { strength: 0.8 });
});

test("an acknowledgement of what the control shows changes no control", () => {
  const { store, log, run } = stage();
  store.set("strength", 0.7);
  run();
  store.acknowledged({ version: 1, values: { ...VALUES, strength: 0.7 }, request: 1 });
  assert.deepEqual(log.changed, []);
});

test("a value that the server changed, or that no control set, reaches the control", () => {
  const { store, log, run } = stage();
  store.put("prompt", "clay");
  run();
  store.acknowledged({ version: 1, values: { ...VALUES, prompt: "clay", strength: 0.4 }, request: 1 });
  assert.deepEqual(log.changed, [["prompt", "strength"]]);
});

test("a control that has moved on is not pulled back by an older acknowledgement", () => {
  const { store, log, run } = stage();
  store.set("strength", 0.7);
  run();
  store.set("strength", 0.9);
  store.acknowledged({ version: 1, values: { ...VALUES, strength: 0.7 }, request: 1 });
  assert.deepEqual(log.changed, []);
});

test("a refusal puts the controls back and names the field", () => {
  const { store, log, run } = stage();
  store.set("steps", 8);
  run();
  assert.equal(store.failed({ request: 1, field: "steps", message: "out of range" }), true);
  assert.deepEqual(log.refused, [["steps", "out of range"]]);
  assert.deepEqual(log.changed, [["steps"]]);
  assert.equal(store.failed({ message: "a frame was broken" }), false);
});

test("what was under way when the line broke is sent again after the welcome", () => {
  const { store, log, run } = stage();
  store.set("strength", 0.7);
  run();
  log.online = false;
  store.set("mode", "b");
  run();
  assert.deepEqual(store.wanted(), { ...VALUES, strength: 0.7, mode: "b" });
  log.online = true;
  store.welcome({ version: 0, values: { ...VALUES } }, FIELDS);
  run();
  assert.deepEqual(log.sent.at(-1).patch, { strength: 0.7, mode: "b" });
});

test("text rests before it is sent, other values hardly", () => {
  const { store, timers } = stage();
  store.set("prompt", "o");
  assert.ok([...timers.values()][0].ms >= 100);
  const second = stage();
  second.store.set("strength", 0.1);
  assert.ok([...second.timers.values()][0].ms <= 30);
});

test("values are made to fit their declaration, or ignored", () => {
  assert.equal(coerce(FIELDS.strength, 7), 1);
  assert.equal(coerce(FIELDS.steps, 2.6), 3);
  assert.equal(coerce(FIELDS.steps, null), undefined);
  assert.equal(coerce(FIELDS.steps, ""), undefined);
  assert.equal(coerce(FIELDS.mode, "z"), undefined);
  assert.equal(coerce(FIELDS.prompt, "0123456789abc"), "0123456789");
  assert.equal(coerce(FIELDS["gate.enabled"], 1), true);
});

test("every acknowledged change is reported, own and foreign, and nothing that changes nothing", () => {
  const { store, log, run } = stage();
  store.set("prompt", "sea");
  run();
  store.acknowledged({ version: 1, values: { ...VALUES, prompt: "sea" }, request: 1 });
  assert.deepEqual([log.settled, log.changed], [1, []], "the control shows it already, others do not know it yet");
  store.acknowledged({ version: 2, values: { ...VALUES, prompt: "sea", steps: 4 } });
  assert.deepEqual([log.settled, log.changed], [2, [["steps"]]]);
  store.acknowledged({ version: 3, values: { ...VALUES, prompt: "sea", steps: 4 } });
  store.acknowledged({ version: 2, values: { ...VALUES } });
  assert.equal(log.settled, 2);
});

test("a control in which somebody types is changed by no answer until it is left", () => {
  const { store, log, run } = stage();
  store.hold("prompt");
  store.set("prompt", "a sea", true);
  run();
  store.acknowledged({ version: 1, values: { ...VALUES, prompt: "cut", steps: 2 }, request: 1 });
  assert.deepEqual(log.changed, [["steps"]]);
  store.release("steps");
  assert.deepEqual(log.changed.length, 1);
  store.release("prompt");
  assert.deepEqual(log.changed.at(-1), ["prompt"]);
  store.release("prompt");
  assert.equal(log.changed.length, 2);
});

test("a chip changes the control in which somebody has typed, but not text that is being composed", () => {
  for (const [composing, changed] of [[false, [["prompt"]]], [true, []]]) {
    const { store, log, run } = stage();
    store.hold("prompt", composing);
    store.put("prompt", "clay");
    run();
    store.acknowledged({ version: 1, values: { ...VALUES, prompt: "clay" }, request: 1 });
    assert.deepEqual(log.changed, changed);
  }
});

test("what was typed leaves when the control is left, and an invalid rest of it takes it back", () => {
  const { store, log, run, timers } = stage();
  store.hold("steps");
  store.set("steps", 2, true);
  assert.ok([...timers.values()][0].ms >= 100, "a number that is typed rests as a text does");
  store.release("steps");
  assert.equal([...timers.values()][0].ms, 0);
  store.drop("steps");
  run();
  assert.deepEqual(log.sent, []);
  store.release("steps");
  store.acknowledged({ version: 1, values: { ...VALUES } });
  assert.deepEqual(log.changed, [["steps"]], "the control shows what holds");
});

test("a box of numbers takes what is allowed and says what is", () => {
  assert.deepEqual(entry(FIELDS.strength, "0.5"), { value: 0.5 });
  assert.deepEqual(entry(FIELDS.strength, "1e-1"), { value: 0.1 });
  assert.deepEqual(entry(FIELDS.steps, " 8 "), { value: 8 });
  for (const text of ["", " ", "-", "9", "0", "2.5", "Infinity", "x"]) assert.match(entry(FIELDS.steps, text).wrong, /whole number from 1 to 8/);
  for (const text of ["", "-0.1", "1.01", "1e9"]) assert.match(entry(FIELDS.strength, text).wrong, /from 0 to 1/);
  assert.match(entry(FIELDS.steps, "5", { low: 1, high: 4 }).wrong, /from 1 to 4/, "an engine may end earlier");
  assert.deepEqual(entry(undefined, "-5"), { value: -5 }, "a range that is not known is the server's to judge");
  assert.ok(entry(undefined, "").wrong);
});

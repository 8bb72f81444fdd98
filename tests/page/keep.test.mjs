import assert from "node:assert/strict";
import test from "node:test";
import zlib from "node:zlib";
import { columnsOf, grouped, keyOf, looksFor, surprise, toggled, wearing } from "../../assets/client/pure/looks.js";
import { Moves, crc32, parseMoves, textOf, withText } from "../../assets/client/pure/files.js";
import { fitting } from "../../assets/client/pure/settings.js";
import { History, blendAt } from "../../assets/client/pure/storage.js";

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const result = Buffer.alloc(body.length + 8);
  result.writeUInt32BE(data.length, 0);
  body.copy(result, 4);
  result.writeUInt32BE(crc32(body), body.length + 4);
  return result;
}

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
const IHDR = chunk("IHDR", Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]));
const PNG = new Uint8Array(Buffer.concat([SIGNATURE, IHDR, chunk("IDAT", zlib.deflateSync(Buffer.from([0, 1, 2, 3]))), chunk("IEND", Buffer.alloc(0))]));

test("the checksum is that of PNG", () => {
  assert.equal(crc32(new TextEncoder().encode("IEND")), 0xae426082); // the end of every PNG file
});

test("text in a picture comes back whole, and the picture stays as it was", () => {
  const text = JSON.stringify({ prompt: "Aquarell, größer ≥ 0.5 🎨" });
  const written = withText(PNG, "rill", text);
  assert.equal(textOf(written, "rill"), text);
  assert.equal(textOf(written, "other"), null);
  assert.equal(textOf(PNG, "rill"), null);
  const added = written.length - PNG.length;
  assert.deepEqual(written.slice(0, 33), PNG.slice(0, 33));
  assert.deepEqual(written.slice(33 + added), PNG.slice(33));
  assert.throws(() => withText(new Uint8Array(100), "rill", ""), RangeError);
  assert.equal(textOf(written.slice(0, 60), "rill"), null);
});

test("a performance keeps what changed and when; a broken one is refused", () => {
  const moves = new Moves({ prompt: "a" }, 1000);
  moves.add({ prompt: "b" }, 2500);
  moves.add({ strength: 0.7 }, 4000);
  const file = JSON.parse(JSON.stringify(moves.finish(6000)));
  assert.deepEqual(parseMoves(file), { settings: { prompt: "a" }, seconds: 5, moves: [{ at: 1.5, patch: { prompt: "b" } }, { at: 3, patch: { strength: 0.7 } }] });
  assert.equal(parseMoves({ ...file, moves: [...file.moves].reverse() }), null);
  assert.equal(parseMoves({ ...file, seconds: 2 }), null);
  assert.equal(parseMoves({ ...file, format: "else" }), null);
  assert.equal(parseMoves(null), null);
});

test("only what this server declares is restored, and it is made to fit", () => {
  const fields = { strength: { kind: "number", low: 0, high: 1 }, "gate.enabled": { kind: "flag" }, prompt: { kind: "text", limit: 5 } };
  assert.deepEqual(fitting({ strength: 7, "gate.enabled": true, prompt: "too long", gone: 1, toString: 2 }, fields), { strength: 1, "gate.enabled": true, prompt: "too l" });
});

test("earlier prompts are remembered once, newest first, and survive the page", () => {
  const kept = new Map();
  globalThis.localStorage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
  const history = new History();
  for (const prompt of ["one", " two ", "one", "", "three"]) history.add(prompt);
  assert.deepEqual(history.items, ["three", "one", "two"]);
  assert.equal(history.older("three"), "one");
  assert.equal(history.older("half typed"), "three");
  assert.equal(history.newer("three"), null);
  assert.deepEqual(new History().items, history.items);
  for (let n = 0; n < 50; n++) history.add(String(n));
  assert.equal(history.items.length, 30);
  for (const broken of ["7", '"text"', '{"0": "one"}', "[3, null]", "null"]) {
    kept.set("rill.prompts", broken);
    assert.deepEqual(new History().items, []);
  }
  delete globalThis.localStorage; // blocked: remembered until the page goes
  new History().add("four");
  assert.equal(new History().items[0], "four");
});

test("the blend travels softly and arrives exactly", () => {
  assert.equal(blendAt(0, 1, 5, 0), 0);
  assert.equal(blendAt(0, 1, 5, 2.5), 0.5);
  assert.equal(blendAt(0.3, 0, 5, 5), 0);
  assert.equal(blendAt(0.3, 1, 5, 99), 1);
  let last = 0;
  for (let t = 0; t <= 5; t += 0.1) {
    const now = blendAt(0, 1, 5, t);
    assert.ok(now >= last && now <= 1);
    last = now;
  }
});

test("a surprise is another look than the present one, within what looks good", () => {
  const looks = ["a", "b", "c"].map((prompt) => ({ settings: { prompt } }));
  let state = 1;
  const chance = () => (state = (state * 16807) % 2147483647) / 2147483647;
  let blended = 0;
  for (let n = 0; n < 300; n++) {
    const patch = surprise(looks, "a", chance);
    assert.notEqual(patch.prompt, "a");
    assert.ok(patch.strength >= 0.4 && patch.strength <= 0.65);
    assert.ok(Number.isInteger(patch.seed) && patch.seed >= 0 && patch.seed < 2 ** 32);
    if (patch.blend > 0) {
      blended += 1;
      assert.notEqual(patch.prompt_b, patch.prompt);
    }
  }
  assert.ok(blended > 50 && blended < 150);
  assert.deepEqual(surprise([], "a", chance), {});
});

test("a model without pictures of its own offers its prompts", () => {
  const manifest = { model: "pocket", presets: [{ name: "Ink", settings: { prompt: "ink" }, picture: "ink.jpg" }] };
  assert.match(looksFor({ name: "pocket", prompts: [] }, manifest, new URL("../../assets/presets/presets.json", import.meta.url))[0].picture, /presets\/ink\.jpg$/);
  assert.deepEqual(looksFor({ name: "other", prompts: ["x"] }, manifest), [{ name: "x", settings: { prompt: "x" }, picture: null }]);
  assert.deepEqual(looksFor({ name: "other" }, null), []);
});

test("kept looks come first, the rest in its groups; keeping twice is keeping no longer", () => {
  const looks = [["a", "x"], ["b", "y"], ["c", "x"], ["d"]].map(([prompt, group]) => ({ name: prompt, settings: { prompt }, group, picture: null }));
  const names = (groups) => groups.map(({ name, looks: some }) => [name, some.map((look) => look.name).join("")]);
  assert.deepEqual(names(grouped(looks, [])), [["x", "ac"], ["y", "b"], ["Looks", "d"]]);
  const kept = toggled(toggled([], looks[1]), looks[0]);
  assert.deepEqual(names(grouped(looks, kept))[0], ["Kept", "ba"]);
  assert.deepEqual(toggled(kept, looks[1]).map(keyOf), [keyOf(looks[0])]);
});

test("a look is worn with its second prompt, or without any that is mixed in", () => {
  const [one, two] = [{ settings: { prompt: "a" } }, { settings: { prompt: "a", prompt_b: "b", blend: 0.4 } }];
  assert.ok(wearing(one, { prompt: " a ", prompt_b: "b", blend: 0 }) && !wearing(one, { prompt: "a", prompt_b: "b", blend: 0.4 }));
  assert.ok(wearing(two, { prompt: "a", prompt_b: "b", blend: 0.2 }) && !wearing(two, { prompt: "a" }));
});

test("up and down lead to the nearest tile of the next row, over the border of a group", () => {
  const box = (left, top) => ({ left, top, width: 10 });
  const boxes = [box(0, 0), box(20, 0), box(40, 0), box(0, 10), box(20, 10), box(0, 30)];
  assert.deepEqual([columnsOf(boxes, 1, 1), columnsOf(boxes, 2, 1), columnsOf(boxes, 4, 1), columnsOf(boxes, 4, -1), columnsOf(boxes, 5, 1)], [4, 4, 5, 1, 5]);
});

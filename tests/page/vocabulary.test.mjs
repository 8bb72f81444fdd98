import assert from "node:assert/strict";
import test from "node:test";
import { remarks, replaced } from "../../assets/client/pure/remarks.js";
import { asked, chosen, known } from "../../assets/client/pure/vocabulary.js";

const model = {
  prompts: ["oil painting", "ink drawing"],
  modifiers: [
    { prompt: "at night", group: "light" },
    { prompt: "foggy", group: "light" },
    { prompt: "blue and gold", group: "palette" },
    { prompt: "very", group: "intensity" },
    { prompt: "slightly", group: "intensity" },
  ],
  scenes: ["sea"],
};
const groups = known(model);

test("groups have titles, and empty ones are left out", () => {
  assert.deepEqual(groups.map(({ title }) => title), ["Looks", "Light", "Colours", "How much", "From nothing"]);
  assert.deepEqual(known({ prompts: ["x"] }), [{ title: "Looks", kind: "look", words: ["x"] }]);
  assert.deepEqual(known({}), []);
});

test("a look takes the place of another and keeps what was added", () => {
  assert.equal(chosen("", "oil painting", "look", groups), "oil painting");
  assert.equal(chosen("oil painting, at night, my cat", "ink drawing", "look", groups), "ink drawing, at night, my cat");
  assert.equal(chosen("very oil painting, foggy", "sea", "scene", groups), "sea, foggy");
});

test("one of a kind is added at a time, and chosen again it goes", () => {
  const night = chosen("oil painting", "at night", "light", groups);
  assert.equal(night, "oil painting, at night");
  assert.equal(chosen(night, "foggy", "light", groups), "oil painting, foggy");
  assert.equal(chosen(night, "blue and gold", "palette", groups), "oil painting, at night, blue and gold");
  assert.equal(chosen(night, "at night", "light", groups), "oil painting");
  assert.ok(asked(night, "at night", "light") && !asked(night, "foggy", "light"));
});

test("an intensity stands before the first clause", () => {
  const very = chosen("oil painting, foggy", "very", "intensity", groups);
  assert.equal(very, "very oil painting, foggy");
  assert.ok(asked(very, "very", "intensity"));
  assert.equal(chosen(very, "slightly", "intensity", groups), "slightly oil painting, foggy");
  assert.equal(chosen(very, "very", "intensity", groups), "oil painting, foggy");
  assert.equal(chosen("", "very", "intensity", groups), "");
});

test("what is said of a prompt: unknown words with the nearest, cuts, and what words were taken for", () => {
  const lines = remarks({
    understood: [
      { setting: "prompt", words: "oil painting", meaning: "oil painting", kind: "look", by: "name" },
      { setting: "prompt", words: "dark", meaning: "at night", kind: "light", by: "alias" },
      { setting: "prompt", words: "misty", meaning: "foggy", kind: "light", by: "alias" },
    ],
    unknown: [
      { setting: "prompt", words: "anime girl", nearest: "ink comic", message: "" },
      { setting: "prompt_b", words: "qwertz", nearest: null, message: "" },
      { setting: "prompt", words: "yuiop", nearest: null, message: "" },
    ],
    cut: [{ setting: "negative", tokens: 24, kept: "a", lost: "the rest", message: "" }],
  });
  assert.deepEqual(lines.map(({ kind }) => kind), ["unknown", "unknown", "cut", "taken"], "one line of a kind for each prompt");
  assert.equal(lines[0].words, "This model does not know “anime girl”, “yuiop”; nearest:");
  assert.deepEqual(lines[0].swaps, [{ setting: "prompt", from: "anime girl", to: "ink comic" }]);
  assert.match(lines[1].words, /^Prompt B: .*“qwertz”\.$/);
  assert.match(lines[2].words, /^Negative prompt: Cut after 24 tokens: “the rest”/);
  assert.match(lines[3].words, /“dark” is read as “at night”, “misty” is read as “foggy”\.$/);
  assert.deepEqual(remarks({}), []);
  assert.deepEqual(remarks({ idle: [{ setting: "cache.reuse", message: "off" }] }), [{ kind: "idle", words: "off.", swaps: [] }]);
  const region = remarks({ understood: [{ setting: "prompt", region: "top left", words: "梵高", meaning: "van gogh", by: "alias" }] });
  assert.equal(region[0].words, "top left: “梵高” is read as “van gogh”.");
});

test("a word is put in the place of another, whatever its case", () => {
  assert.equal(replaced("Anime Girl, at night", "anime girl", "ink comic"), "ink comic, at night");
  assert.equal(replaced("a sea", "anime", "ink"), "a sea");
});

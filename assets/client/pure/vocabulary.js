// The words that a model knows, and prompts put together from them. Pure.

const TITLES = { palette: "Colours", light: "Light", texture: "Lines and surface", intensity: "How much" };

const clauses = (prompt) => prompt.split(",").map((clause) => clause.trim()).filter(Boolean);

export function known({ prompts = [], modifiers = [], scenes = [] }) {
  const groups = [{ title: "Looks", kind: "look", words: prompts }];
  for (const group of new Set(modifiers.map((modifier) => modifier.group))) {
    const words = modifiers.filter((modifier) => modifier.group === group).map(({ prompt }) => prompt);
    groups.push({ title: TITLES[group] ?? group, kind: group, words });
  }
  groups.push({ title: "From nothing", kind: "scene", words: scenes });
  return groups.filter(({ words }) => words.length);
}

/** Is it a clause of the prompt? An intensity begins one. */
export function asked(prompt, word, kind) {
  return kind === "intensity" ? clauses(prompt).some((clause) => clause.startsWith(`${word} `)) : clauses(prompt).includes(word);
}

/**
 * The prompt with this word, or without it if it was there. Looks and scenes take the first place; there is one palette, light and
 * texture; an intensity stands before the first clause.
 */
export function chosen(prompt, word, kind, groups) {
  const all = clauses(prompt);
  const of = (name) => groups.find((group) => group.kind === name)?.words ?? [];
  if (kind === "intensity") {
    if (!all.length) return prompt;
    const plain = of("intensity").reduce((text, other) => (text.startsWith(`${other} `) ? text.slice(other.length + 1) : text), all[0]);
    return [asked(prompt, word, kind) ? plain : `${word} ${plain}`, ...all.slice(1)].join(", ");
  }
  const rivals = kind === "look" || kind === "scene" ? [...of("look"), ...of("scene")] : of(kind);
  const bare = (clause) => of("intensity").reduce((text, other) => (text.startsWith(`${other} `) ? text.slice(other.length + 1) : text), clause);
  const rest = all.filter((clause) => !rivals.includes(clause) && !rivals.includes(bare(clause)));
  if (all.includes(word)) return rest.join(", ");
  return (kind === "look" || kind === "scene" ? [word, ...rest] : [...rest, word]).join(", ");
}

const WHERE = { prompt: "", prompt_b: "Prompt B: ", negative: "Negative prompt: " };

/** Where a text stands: its setting, and its region of the picture. */
const place = ({ setting, region }) => WHERE[setting] + (region ? `${region}: ` : "");

/** Lines, one of a kind for each text: { kind: unknown | cut | idle | taken, words, swaps: [{ setting, from, to }] }. */
export function remarks({ understood = [], unknown = [], cut = [], idle = [] }) {
  const said = (kind, words, swaps = []) => ({ kind, words, swaps });
  const strange = byText(unknown).map(([where, some]) => {
    const swaps = some.filter(({ nearest }) => nearest).map(({ setting, words: from, nearest: to }) => ({ setting, from, to }));
    return said("unknown", `${where}This model does not know ${some.map(({ words }) => `“${words}”`).join(", ")}${swaps.length ? "; nearest:" : "."}`, swaps);
  });
  const ends = cut.map((one) => said("cut", `${place(one)}Cut after ${one.tokens} tokens: “${one.lost}” is not read.`));
  const taken = byText(understood.filter(({ by }) => by !== "name")).map(([where, some]) =>
    said("taken", `${where}${some.map(({ words, meaning }) => `“${words}” is read as “${meaning}”`).join(", ")}.`));
  return [...strange, ...ends, ...idle.map(({ message }) => said("idle", `${message}.`)), ...taken];
}

const byText = (items) => [...new Set(items.map(place))].map((where) => [where, items.filter((item) => place(item) === where)]);

export function replaced(prompt, from, to) {
  const at = prompt.toLowerCase().indexOf(from.toLowerCase());
  return at < 0 ? prompt : prompt.slice(0, at) + to + prompt.slice(at + from.length);
}

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

/** Lines to say: { kind: taken | unknown | cut | idle, words, setting, from, to }; `to` may take the place of `from`. */
export function remarks({ understood = [], unknown = [], cut = [], idle = [] }) {
  const taken = understood.filter(({ by }) => by !== "name").map(({ setting, words, meaning }) => ({ kind: "taken", setting, words: `${WHERE[setting]}“${words}” is read as “${meaning}”.` }));
  const strange = unknown.map(({ setting, words, nearest }) => ({
    kind: "unknown", setting, from: words, to: nearest, words: `${WHERE[setting]}This model does not know “${words}”${nearest ? "; nearest:" : "."}`,
  }));
  const ends = cut.map(({ setting, tokens, lost }) => ({ kind: "cut", setting, words: `${WHERE[setting]}Cut after ${tokens} tokens: “${lost}” is not read.` }));
  return [...strange, ...ends, ...idle.map(({ setting, message }) => ({ kind: "idle", setting, words: `${message}.` })), ...taken];
}

export function replaced(prompt, from, to) {
  const at = prompt.toLowerCase().indexOf(from.toLowerCase());
  return at < 0 ? prompt : prompt.slice(0, at) + to + prompt.slice(at + from.length);
}

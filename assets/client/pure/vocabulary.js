// The words that a model says it knows, and prompts put together from them. Pure.

const TITLES = { palette: "Colours", light: "Light", texture: "Lines and surface", intensity: "How much" };

const clauses = (prompt) => prompt.split(",").map((clause) => clause.trim()).filter(Boolean);

/** Groups of words, each with a title: looks, what may be added by group, scenes. Empty groups are left out. */
export function known({ prompts = [], modifiers = [], scenes = [] }) {
  const groups = [{ title: "Looks", kind: "look", words: prompts }];
  for (const group of new Set(modifiers.map((modifier) => modifier.group))) {
    const words = modifiers.filter((modifier) => modifier.group === group).map(({ prompt }) => prompt);
    groups.push({ title: TITLES[group] ?? group, kind: group, words });
  }
  groups.push({ title: "From nothing", kind: "scene", words: scenes });
  return groups.filter(({ words }) => words.length);
}

/** Is this word a clause of the prompt, or does the first clause begin with it, as an intensity does? */
export function asked(prompt, word, kind) {
  return kind === "intensity" ? clauses(prompt).some((clause) => clause.startsWith(`${word} `)) : clauses(prompt).includes(word);
}

/**
 * The prompt with this word, or without it where it was there. Looks and scenes take the first place and each other's; of a palette,
 * a light and a texture there is one at a time; an intensity stands before the first clause. Clauses of nobody's list stay.
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

/** Lines to say under the prompt: { kind: taken | unknown | cut, words, setting, from, to }; `to` may be put in the place of `from`. */
export function remarks({ understood = [], unknown = [], cut = [] }) {
  const taken = understood.filter(({ by }) => by !== "name").map(({ setting, words, meaning }) => ({ kind: "taken", setting, words: `${WHERE[setting]}“${words}” is read as “${meaning}”.` }));
  const strange = unknown.map(({ setting, words, nearest }) => ({
    kind: "unknown", setting, from: words, to: nearest, words: `${WHERE[setting]}This model does not know “${words}”${nearest ? "; nearest:" : "."}`,
  }));
  const ends = cut.map(({ setting, tokens, lost }) => ({ kind: "cut", setting, words: `${WHERE[setting]}Cut after ${tokens} tokens: “${lost}” is not read.` }));
  return [...strange, ...ends, ...taken];
}

/** `prompt` with `to` where the words `from` stood, whatever their case. */
export function replaced(prompt, from, to) {
  const at = prompt.toLowerCase().indexOf(from.toLowerCase());
  return at < 0 ? prompt : prompt.slice(0, at) + to + prompt.slice(at + from.length);
}

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

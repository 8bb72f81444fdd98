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

// What the page says about a prompt: words that the model does not know, took for others, or did not read. Pure.

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

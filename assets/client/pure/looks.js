// Looks: which a model has, their groups and order, which is worn, and a surprise. Pure.

export const KEPT = "Kept";
const BLENDED = 0.3; // of all surprises are two looks at once
const PLAIN = { blend: 0 };

/** A patch: one look or two, how strong, and new noise. `chance()` gives 0..1. */
export function surprise(looks, current, chance) {
  const pick = (from) => from[Math.min(from.length - 1, Math.floor(chance() * from.length))];
  const others = looks.filter(({ settings }) => settings.prompt !== current);
  if (!others.length) return {};
  const first = pick(others);
  const patch = { ...PLAIN, ...first.settings, seed: Math.floor(chance() * 4294967295), strength: Math.round((0.4 + 0.25 * chance()) * 100) / 100 };
  const rest = others.filter(({ settings }) => settings.prompt !== first.settings.prompt && !settings.prompt_b);
  if (first.settings.prompt_b || !rest.length || chance() >= BLENDED) return patch;
  return { ...patch, prompt_b: pick(rest).settings.prompt, blend: Math.round((0.3 + 0.4 * chance()) * 100) / 100 };
}

/** Those of the manifest if it was made with this model, else example prompts. `base`: the manifest's address. */
export function looksFor(model, manifest, base) {
  if (manifest?.model === model.name) return manifest.presets.map((preset) => ({ ...preset, picture: new URL(preset.picture, base).href }));
  return (model.prompts ?? []).map((prompt) => ({ name: prompt, settings: { prompt }, picture: null }));
}

/** [{ name, looks }]: kept ones first, then by their `group` in the order in which groups first appear. */
export function grouped(looks, kept) {
  const groups = new Map(kept.length ? [[KEPT, kept]] : []);
  for (const look of looks) {
    const name = look.group ?? "Looks";
    groups.set(name, [...(groups.get(name) ?? []), look]);
  }
  return [...groups].map(([name, some]) => ({ name, looks: some }));
}

/** The groups, each in the order of its keys in `order`, { group: [keys] }; looks that it does not name follow. */
export function arranged(groups, order) {
  return groups.map(({ name, looks }) => {
    const keys = Array.isArray(order?.[name]) ? order[name] : [];
    const rank = (look) => (keys.includes(keyOf(look)) ? keys.indexOf(keyOf(look)) : keys.length);
    return { name, looks: [...looks].sort((a, b) => rank(a) - rank(b)) };
  });
}

/** What makes two looks the same. */
export function keyOf({ settings: { prompt, prompt_b: second = "", blend = 0 } }) {
  return JSON.stringify([prompt, second, second ? blend : 0]);
}

export function toggled(kept, look) {
  const rest = kept.filter((item) => keyOf(item) !== keyOf(look));
  return rest.length < kept.length ? rest : [...kept, { name: look.name, settings: look.settings, picture: look.picture }];
}

/** Whether these settings show that look. */
export function wearing({ settings }, { prompt = "", prompt_b: second = "", blend = 0 }) {
  return settings.prompt === prompt.trim() && (settings.prompt_b ?? "") === (blend > 0 ? second : "");
}

/** The box nearest to box `at` in the next row (`way` 1) or the one before (-1); `at` where there is none. */
export function columnsOf(boxes, at, way) {
  const middle = ({ left, width }) => left + width / 2;
  const beyond = boxes.map((box, index) => ({ box, index })).filter(({ box }) => way * (box.top - boxes[at].top) > 1);
  if (!beyond.length) return at;
  const row = beyond.reduce((best, { box }) => (way * (box.top - best) < 0 ? box.top : best), beyond[0].box.top);
  const near = beyond.filter(({ box }) => Math.abs(box.top - row) < 2);
  return near.reduce((best, each) => (Math.abs(middle(each.box) - middle(boxes[at])) < Math.abs(middle(best.box) - middle(boxes[at])) ? each : best)).index;
}

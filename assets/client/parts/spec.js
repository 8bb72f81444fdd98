// What the engine runs, chosen here: backend, size, precision, model, LoRAs.

import { choice, iconButton, make, offer, options, write } from "./dom.js";

const SIDES = [256, 384, 512, 640, 768, 1024];
const SHAPES = [ // multiples of 64, within 2% of the shape that they stand for
  ["4:3", [[512, 384], [768, 576]]],
  ["16:9", [[448, 256], [576, 320], [1024, 576]]],
];

/** [value, words]: squares, the usual shapes upright and across, and what runs now. */
export function sizes({ width, height }) {
  const shapes = SHAPES.flatMap(([name, some]) => [
    ...some.map((size) => [...size, name]),
    ...some.map(([w, h]) => [h, w, name.split(":").reverse().join(":")]),
  ]);
  const usual = [...SIDES.map((side) => [side, side, ""]), ...shapes];
  const all = usual.some(([w, h]) => w === width && h === height) ? usual : [[width, height, ""], ...usual];
  return all.map(([w, h, name]) => [`${w}x${h}`, `${w} × ${h}` + (name && ` (${name})`)]);
}

/** `loras` with one at another weight, added if new, gone if null. */
export function weighed(loras, name, weight) {
  const others = loras.filter((use) => use.name !== name);
  if (weight === null) return others;
  const known = loras.some((use) => use.name === name);
  return known ? loras.map((use) => (use.name === name ? { name, weight } : use)) : [...others, { name, weight }];
}

/** The last part of a path without its ending; the same of what is added to it. */
export function called(name) {
  const last = (part) => part.split("/").at(-1).replace(/\.safetensors(?=$|:)/, "");
  return name.split("+").map(last).join(" + ");
}

export function spec(host, studio) {
  const { respec } = studio;
  const pick = (label, changes) => {
    const { line, select } = choice(label, () => respec.ask(changes(select.value)));
    host.append(line);
    return select;
  };
  const backend = pick("Backend", (value) => ({ backend: value }));
  const size = pick("Size", (value) => {
    const [width, height] = value.split("x").map(Number);
    return { width, height };
  });
  const dtype = pick("Precision", (value) => ({ dtype: value }));
  const attention = pick("Attention", (value) => ({ attention: value }));
  const hires = pick("Other sizes", (value) => ({ hires: value }));
  const model = pick("Model", (value) => ({ model: value }));
  const uses = host.appendChild(make("div", { className: "rill-loras" }));
  const ask = (name, weight) => respec.ask({ loras: weighed(respec.spec.loras ?? [], name, weight) });
  const lora = pick("LoRA", (value) => ({ loras: weighed(respec.spec.loras ?? [], value, 1) }));
  const said = make("div", { className: "rill-said", aria: { live: "polite" } });
  host.append(said, effect(studio));

  respec.changed = () => {
    const { spec: now, choices, refused, asked, words } = respec;
    if (!now) return;
    const named = (values = []) => values.map((value) => [value, called(value)]);
    fill(backend, named(choices.backend), now.backend);
    fill(size, sizes(now), `${now.width}x${now.height}`);
    fill(dtype, named(choices.dtype), now.dtype);
    fill(attention, named(choices.attention), now.attention ?? "sdpa");
    attention.parentElement.hidden = attention.options.length < 2;
    fill(hires, named(choices.hires), now.hires ?? "off");
    hires.parentElement.hidden = hires.options.length < 2;
    offer("rill-hires-share", now.hires === "full");
    offer("rill-stitch-fraction", Boolean(now.stitch));
    fill(model, named(choices.model), now.model);
    model.parentElement.hidden = model.options.length < 2;
    const locked = Boolean(refused) || asked;
    const used = now.loras ?? [];
    const others = (choices.loras ?? []).filter((name) => !used.some((use) => use.name === name));
    fill(lora, [["", "Add one"], ...named(others)], "");
    lora.parentElement.hidden = !others.length;
    uses.replaceChildren(...used.map((use) => weight(use, locked, ask)));
    for (const select of [backend, size, dtype, attention, hires, model, lora]) select.disabled = locked;
    write(said, /visitors share/.test(words) ? "Locked while others are here" : words);
    said.title = words;
  };
  respec.changed();
}

const SETTLED = 5000; // ms after a change

/** What the last change of backend, size or precision did to a full pass. */
function effect(studio) {
  const said = make("div", { className: "rill-said", aria: { live: "polite" } });
  const nameOf = ({ backend, width, height, dtype }) => `${backend}, ${width} × ${height}, ${dtype}`;
  let [seen, before, at] = [null, null, 0];
  studio.on("summary", ({ model }) => {
    if (!studio.respec.spec || model.generated === null) return;
    const now = { name: nameOf(studio.respec.spec), ms: model.generated };
    if (seen && seen.name !== now.name && !before) [before, at] = [seen, performance.now()];
    if (before && performance.now() - at < SETTLED) return;
    if (before) write(said, before.name === now.name ? "" : `A full pass takes ${now.ms.toFixed(1)} ms; with ${before.name} it took ${before.ms.toFixed(1)} ms.`);
    [seen, before] = [now, null];
  });
  return said;
}

function weight({ name, weight: value }, locked, ask) {
  const label = called(name);
  const shown = make("output", { textContent: value.toFixed(2) });
  const slider = make("input", {
    type: "range",
    min: Math.min(-1, value),
    max: Math.max(2, value),
    step: 0.05,
    disabled: locked,
    aria: { label: `Weight of ${label}` },
    oninput: () => write(shown, Number(slider.value).toFixed(2)), onchange: () => ask(name, Number(slider.value)),
  });
  slider.value = value;
  const remove = iconButton("bin", `Remove ${label}`, () => ask(name, null));
  remove.disabled = locked;
  return make("div", { className: "rill-lora" }, make("span", { textContent: label, title: name }), slider, shown, remove);
}

function fill(select, pairs, value) {
  const all = pairs.some(([option]) => option === value) ? pairs : [[value, value], ...pairs];
  const key = JSON.stringify(all);
  if (select.dataset.options !== key) {
    select.dataset.options = key;
    select.replaceChildren(...options(all));
  }
  select.value = value;
}

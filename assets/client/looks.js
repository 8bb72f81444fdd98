// Looks to choose from: presets with pictures that the model itself made, or the example prompts of a model that has none.

import { make } from "./dom.js";
import { fitting } from "./share.js";

const MANIFEST = new URL("../presets/presets.json", import.meta.url);
const BLENDED = 0.3; // of all surprises are two looks at once
const PLAIN = { prompt_b: "", blend: 0 }; // what a look undoes unless it says otherwise

/** A patch that nobody expected: one look or two, how strong, and new noise. `chance()` gives 0..1. */
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

/** The looks for a model: those of the manifest if it was made with this model, else its example prompts. */
export function looksFor(model, manifest) {
  if (manifest?.model === model.name) return manifest.presets.map((preset) => ({ ...preset, picture: new URL(preset.picture, MANIFEST).href }));
  return (model.prompts ?? []).map((prompt) => ({ name: prompt, settings: { prompt }, picture: null }));
}

async function fetchManifest() {
  try {
    const answer = await fetch(MANIFEST);
    return answer.ok ? await answer.json() : null;
  } catch (error) {
    if (error instanceof TypeError) return null; // the server is away: the prompts will do
    throw error;
  }
}

export function looks(host, studio) {
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", "Looks");
  const manifest = fetchManifest();
  let shown = [];
  const apply = (settings) => {
    for (const [key, value] of Object.entries(fitting({ ...PLAIN, ...settings }, studio.settings.fields))) studio.settings.put(key, value);
  };
  const paint = () => {
    const { prompt = "", prompt_b: second = "", blend = 0 } = studio.settings.values;
    shown.forEach(({ settings }, index) => {
      const same = settings.prompt === prompt.trim() && (settings.prompt_b ?? "") === (blend > 0 ? second : "");
      host.children[index].setAttribute("aria-pressed", String(same));
    });
  };
  host.addEventListener("wheel", (event) => {
    if (event.deltaX || host.scrollWidth <= host.clientWidth) return;
    event.preventDefault(); // an upright wheel scrolls the row sideways
    host.scrollLeft += event.deltaY;
  }, { passive: false });
  studio.surprise = () => apply(surprise(shown, studio.settings.values.prompt, Math.random));
  studio.addEventListener("welcome", async ({ detail: { model } }) => {
    shown = looksFor(model, await manifest);
    host.replaceChildren(...shown.map(({ name, settings, picture }) => make("button", {
      type: "button",
      className: picture ? "rill-look" : "rill-chip",
      title: name,
      on: { click: () => apply(settings) },
    }, picture && make("img", { src: picture, alt: "", loading: "lazy", width: 144, height: 144 }), make("span", { textContent: name }))));
    paint();
  });
  studio.addEventListener("settings", paint);
}

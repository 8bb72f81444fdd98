// Looks to choose from: presets with pictures that the model itself made, or the example prompts of a model that has none.

import { make } from "./dom.js";
import { fitting } from "../pure/share.js";

const MANIFEST = new URL("../../presets/presets.json", import.meta.url);
const EDGE = 40; // pixels at the end of the row that fade out
const BLENDED = 0.3; // of all surprises are two looks at once
const PLAIN = { blend: 0 }; // what a look undoes unless it says otherwise; a second prompt stays written, but not mixed in

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
    keepSecond(settings.prompt_b);
    for (const [key, value] of Object.entries(fitting({ ...PLAIN, ...settings }, studio.settings.fields))) studio.settings.put(key, value);
  };
  /** A look that brings a second prompt replaces one that somebody wrote: that one is kept among the earlier prompts. */
  const keepSecond = (next) => {
    const own = (studio.settings.wanted().prompt_b ?? "").trim();
    const known = shown.some(({ settings }) => settings.prompt === own || settings.prompt_b === own);
    if (!next || !own || own === next || known) return;
    studio.say("remember", own);
    studio.notice(`This look has a second prompt of its own. Yours, “${own}”, is among the earlier prompts.`, true);
  };
  let seen = null; // the look that was last brought into view
  const bring = () => {
    const chosen = [...host.children].find((item) => item.getAttribute("aria-pressed") === "true") ?? null;
    if (chosen && chosen !== seen) {
      const [row, one] = [host, chosen].map((item) => item.getBoundingClientRect());
      if (one.left < row.left || one.right > row.right - EDGE) host.scrollBy({ left: one.left - row.left - (row.width - one.width) / 2, behavior: "smooth" });
    }
    seen = chosen;
  };
  const paint = () => {
    const { prompt = "", prompt_b: second = "", blend = 0 } = studio.settings.values;
    shown.forEach(({ settings }, index) => {
      const same = settings.prompt === prompt.trim() && (settings.prompt_b ?? "") === (blend > 0 ? second : "");
      host.children[index].setAttribute("aria-pressed", String(same));
    });
    bring();
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

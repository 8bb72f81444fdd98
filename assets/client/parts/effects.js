// What a technique's row does right now, in one short phrase made from the live counts. The words are pure.

import { write } from "./dom.js";

/** The phrase for one row; empty where there is nothing true to say. */
export function phrase(name, values, summary, model) {
  if (name === "gate") return values["gate.enabled"] ? saved(summary, "skipped", "skipped", 0) : "";
  if (name === "cache") return values["cache.enabled"] ? saved(summary, "cached", "reused", summary.model?.cached ?? null) : "";
  if (name === "stream_batch" && !(values.steps > 1)) return "idle at 1 step";
  if (name === "stream_batch") return values["stream_batch.enabled"] ? `${values.steps} levels in one call` : `${values.steps} calls`;
  if (name === "guidance") return model && model.guidance_trained === false ? "this model was trained without it" : "";
  return "";
}

/** "25% skipped, −5 ms": the share of such frames, and what they save of the model's time per frame at this moment. */
function saved({ counts, model }, verdict, word, price) {
  const all = counts.generated + counts.cached + counts.skipped;
  const share = all ? counts[verdict] / all : 0;
  const full = model?.generated ?? null;
  const words = `${Math.round(100 * share)}% ${word}`;
  return full === null || price === null || !share ? words : `${words}, −${(share * (full - price)).toFixed(1)} ms`;
}

export function effect(host, studio) {
  studio.addEventListener("summary", ({ detail }) => {
    write(host, phrase(host.dataset.of, studio.settings.values, detail, studio.welcome?.model));
  });
}

// What a technique's row does right now, in one short phrase made from the live counts. The words are pure.

import { write } from "./dom.js";

/** The phrase for one row; empty where there is nothing true to say. */
export function phrase(name, values, summary, model) {
  if (name === "gate") return values["gate.enabled"] ? `${share(summary, "skipped")} skipped` : "";
  if (name === "cache") return values["cache.enabled"] ? `${share(summary, "cached")} reused` : "";
  if (name === "stream_batch" && !(values.steps > 1)) return "idle at 1 step";
  if (name === "stream_batch") return values["stream_batch.enabled"] ? `${values.steps} levels in one call` : `${values.steps} calls`;
  if (name === "guidance") return model && model.guidance_trained === false ? "this model was trained without it" : "";
  if (name === "probe") return values["probe.enabled"] && summary.quality ? compared(summary.quality) : "";
  return "";
}

function compared({ ssim, psnr, flicker }) {
  const words = [`SSIM ${ssim.toFixed(3)}`, `${psnr.toFixed(1)} dB`];
  if (flicker !== null) words.push(`flicker ${flicker.toFixed(1)}`);
  return words.join(" · ");
}

function share(summary, verdict) {
  const { generated, cached, skipped } = summary.counts;
  const all = generated + cached + skipped;
  return all ? `${Math.round((100 * summary.counts[verdict]) / all)}%` : "0%";
}

export function effect(host, studio) {
  studio.addEventListener("summary", ({ detail }) => {
    write(host, phrase(host.dataset.of, studio.settings.values, detail, studio.welcome?.model));
  });
}

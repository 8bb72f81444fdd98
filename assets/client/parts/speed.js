// A technique's row: what it does right now, and what it buys, measured by turns on the running stream.

import { link, make, write } from "./dom.js";
import { Trial, age, effectWords, sides } from "../pure/trial.js";

export const PROBE = { "probe.enabled": true, "probe.every": 4, "probe.share": 0.3 };

/** Its effect with its age, and the button that measures it. One measurement runs at a time. */
export function measured(host, studio) {
  const name = host.dataset.of;
  const said = make("span", { aria: { live: "polite" } });
  const button = link("Measure", () => (studio.trial?.name === name ? abort(studio, "") : start()), { title: "Switches it off and on for short windows on the running stream" });
  host.append(said, button);
  let found = null;

  function start() {
    const both = sides(name, studio.settings.values);
    if (!both || studio.trial) return;
    const keys = [...Object.keys(both[0]), ...Object.keys(PROBE)];
    const before = Object.fromEntries(keys.map((key) => [key, studio.settings.values[key]]));
    studio.trial = { name, both, before, trial: new Trial(), wanted: null, done: (result) => (found = { ...result, at: performance.now() }) };
    put(studio, { ...PROBE, ...both[1] });
  }

  studio.on("summary", () => {
    const { trial } = studio;
    const mine = trial?.name === name;
    const possible = sides(name, studio.settings.values) !== null;
    button.hidden = (!possible && !mine) || (Boolean(trial) && !mine);
    write(button, mine ? "Stop" : found ? "Again" : "Measure");
    write(said, mine ? `measuring, ${trial.trial.index + 1} of ${trial.trial.windows.length}` : found && possible ? effectWords(found, performance.now()) : "");
  });
}

export function put(studio, patch) {
  for (const [key, value] of Object.entries(patch)) studio.settings.put(key, value);
}

function abort(studio, why) {
  const { before } = studio.trial;
  studio.trial = null;
  put(studio, before);
  if (why) studio.notice(why, true);
}

/** Feeds the measurement under way. */
export function watchTrial(studio) {
  studio.on("verdict", (answer) => {
    const running = studio.trial;
    if (!running || studio.settings.busy || answer.settingsVersion !== studio.settings.version) return;
    const { trial, both, before } = running;
    const wanted = both[trial.on ? 0 : 1];
    if (Object.entries(wanted).some(([key, value]) => studio.settings.values[key] !== value)) return abort(studio, "Measuring has ended: a setting was changed.");
    if (!trial.add(answer, performance.now())) return;
    if (!trial.done) return put(studio, both[trial.on ? 0 : 1]);
    studio.trial = null;
    running.done(trial.result());
    put(studio, before);
  });
  studio.on("link", () => studio.trial && studio.link.state !== "live" && abort(studio, "Measuring has ended with the connection."));
}

/** A row's phrase; empty where there is nothing true to say. */
export function phrase(name, values, summary, model) {
  if (name === "gate") return values["gate.enabled"] ? saved(summary, "skipped", "skipped", 0) : "";
  const both = values["cache.enabled"] && values["partial.enabled"]; // answers do not say which of the two it was
  if (name === "cache") return values["cache.enabled"] ? saved(summary, "cached", both ? "reused or in part" : "reused", summary.model?.cached ?? null) : "";
  if (name === "partial") return values["partial.enabled"] && !both ? saved(summary, "cached", "in part", summary.model?.cached ?? null) : "";
  if (name === "refine" && values["refine.enabled"] && values.steps >= values["refine.steps"] && !values["cache.enabled"]) return "idle: all steps are live";
  if (name === "stream_batch" && !(values.steps > 1)) return "idle at 1 step";
  if (name === "stream_batch") return values["stream_batch.enabled"] ? `${values.steps} levels in one call` : `${values.steps} calls`;
  if (name === "guidance") return model && model.guidance_trained === false ? "this model was trained without it" : "";
  return "";
}

/** "25% skipped, −5 ms" of the model's time per frame. */
function saved({ counts, model }, verdict, word, price) {
  const all = counts.generated + counts.cached + counts.skipped;
  const share = all ? counts[verdict] / all : 0;
  const full = model?.generated ?? null;
  const words = `${Math.round(100 * share)}% ${word}`;
  return full === null || price === null || !share ? words : `${words}, −${(share * (full - price)).toFixed(1)} ms`;
}

export function effect(host, studio) {
  studio.on("summary", (detail) => {
    write(host, phrase(host.dataset.of, studio.settings.values, detail, studio.welcome?.model));
  });
}

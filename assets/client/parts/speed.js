// A technique's row: what it does right now, and what it buys, measured by turns on the running stream.

import { link, make, write } from "./dom.js";
import { Shared } from "../pure/shared.js";
import { Trial, age, effectWords, sides } from "../pure/trial.js";

const PROBE = { "probe.enabled": true, "probe.every": 4, "probe.share": 0.3 };

/** Its effect with its age, and the button that measures it. One measurement runs at a time. */
export function measured(host, studio) {
  const name = host.dataset.of;
  const said = make("span", { aria: { live: "polite" } });
  const button = link("Measure", () => (studio.trial?.name === name ? abort(studio, "") : start()), { title: "Switches it off and on for short windows on the running stream" });
  host.append(said, button);
  let found = null;

  function start() {
    const wanted = studio.settings.wanted();
    const both = sides(name, wanted);
    if (!both || studio.trial) return;
    const before = Object.fromEntries(Object.keys(both[0]).map((key) => [key, wanted[key]]));
    studio.trial = { name, both, before, trial: new Trial(), done: (result) => (found = { ...result, at: performance.now() }) };
    probe(studio, "trial");
    put(studio, both[1]);
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

/** Switches the comparison with full quality on until this user ends it by `studio.probe.give(user)`. */
export function probe(studio, user) {
  studio.probe ??= new Shared(studio.settings);
  studio.probe.take(user, PROBE);
}

function end(studio) {
  const { before } = studio.trial;
  studio.trial = null;
  put(studio, before);
  studio.probe.give("trial");
}

/** Ends the measurement under way, for a reason in words or "". */
export function abort(studio, why) {
  end(studio);
  if (why) studio.notice(why, true);
}

/** Feeds the measurement under way. */
export function watchTrial(studio) {
  studio.on("verdict", (answer) => {
    const running = studio.trial;
    if (!running || studio.settings.busy || answer.settingsVersion !== studio.settings.version) return;
    const { trial, both } = running;
    const wanted = both[trial.on ? 0 : 1];
    if (Object.entries(wanted).some(([key, value]) => studio.settings.values[key] !== value)) return abort(studio, "Measuring has ended: a setting was changed.");
    if (!trial.add(answer, performance.now())) return;
    if (!trial.done) return put(studio, both[trial.on ? 0 : 1]);
    running.done(trial.result());
    end(studio);
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

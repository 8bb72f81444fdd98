// The speed panel: what each acceleration buys, measured by turns on the running stream.

import { make, write } from "./dom.js";
import { Trial, age, effectWords, sides } from "../pure/trial.js";

export const PROBE = { "probe.enabled": true, "probe.every": 4, "probe.share": 0.3 }; // while something is measured

/** Under each technique: its effect with its age, and the button that measures it. One measurement runs at a time. */
export function measured(host, studio) {
  const name = host.dataset.of;
  const said = make("span", { aria: { live: "polite" } });
  const button = make("button", { type: "button", className: "rill-link", textContent: "Measure", title: "Switches it off and on for short windows on the running stream", on: { click: () => (studio.trial?.name === name ? abort(studio, "") : start()) } });
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

  studio.addEventListener("summary", () => {
    const { trial } = studio;
    const mine = trial?.name === name;
    const possible = sides(name, studio.settings.values) !== null;
    button.hidden = (!possible && !mine) || (Boolean(trial) && !mine);
    write(button, mine ? "Stop" : found ? "Again" : "Measure");
    write(said, mine ? `measuring, ${trial.trial.index + 1} of ${trial.trial.windows.length}` : found && possible ? effectWords(found, performance.now()) : "");
  });
}

/** Sends every key of the patch. */
export function put(studio, patch) {
  for (const [key, value] of Object.entries(patch)) studio.settings.put(key, value);
}

function abort(studio, why) {
  const { before } = studio.trial;
  studio.trial = null;
  put(studio, before);
  if (why) studio.notice(why, true);
}

/** Feeds the measurement under way; the studio calls it once. */
export function watchTrial(studio) {
  studio.addEventListener("verdict", ({ detail: answer }) => {
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
  studio.addEventListener("link", () => studio.trial && studio.link.state !== "live" && abort(studio, "Measuring has ended with the connection."));
}

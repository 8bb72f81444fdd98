// The speed panel's own parts: what each acceleration buys, measured by turns, and the goal that is held.

import { make, write } from "./dom.js";
import { begin, decide, ladder } from "./hold.js";
import { Trial, age, effectWords, sides } from "./trial.js";

const PROBE = { "probe.enabled": true, "probe.every": 4, "probe.share": 0.3 }; // while something is measured

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

function put(studio, patch) {
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

const GOALS = {
  fps: { value: 20, min: 1, max: 120, step: 1, unit: "pictures a second" },
  quality: { value: 0.95, min: 0.5, max: 1, step: 0.005, unit: "SSIM against the unaccelerated picture" },
};

/** "Hold": the user names a frame rate or a likeness, and settings move to keep it. */
export function hold(host, studio) {
  const kind = make("select", { className: "rill-select", aria: { label: "What to hold" } },
    ...[["", "Hold nothing"], ["fps", "Hold a frame rate"], ["quality", "Hold a likeness"]].map(([value, textContent]) => make("option", { value, textContent })));
  const target = make("input", { type: "number", className: "rill-number", aria: { label: "Goal" } });
  const unit = make("span");
  const goal = make("label", { className: "rill-check", hidden: true }, target, unit);
  const said = make("p", { className: "rill-remark", aria: { live: "polite" } });
  host.append(make("div", { className: "rill-sourceline" }, kind, goal), said);
  let held = null; // { rungs, state, before, why, at }

  const seconds = () => performance.now() / 1000;
  function start() {
    stop();
    const { values } = studio.settings;
    if (!kind.value) return;
    const rungs = ladder(values, studio.sizes ?? []);
    if (kind.value === "quality") put(studio, PROBE);
    held = { rungs, state: begin(seconds()), before: { ...rungs[0].patch, ...pick(values, Object.keys(PROBE)) }, why: "", at: performance.now() };
  }
  function stop() {
    if (!held) return;
    put(studio, held.before);
    held = null;
  }
  kind.addEventListener("change", () => {
    const { value = 0, unit: words = "", ...range } = GOALS[kind.value] ?? {};
    goal.hidden = !kind.value;
    Object.assign(target, range, { value });
    write(unit, words);
    start();
  });
  target.addEventListener("change", () => held && (held.state = begin(seconds())));

  studio.addEventListener("summary", ({ detail: summary }) => {
    if (!held) return write(said, "");
    const { values } = studio.settings;
    const wanted = held.rungs[held.state.rung].patch;
    if (!studio.settings.busy && Object.entries(wanted).some(([key, value]) => key in values && values[key] !== value)) {
      held = null; // the user's hand is stronger
      kind.value = "";
      goal.hidden = true;
      return studio.notice("Holding has ended: you changed a setting that it moves.", true);
    }
    if (studio.paused || studio.link.state !== "live" || studio.trial) return null;
    const value = kind.value === "fps" ? summary.shown : (summary.quality?.ssim ?? null);
    const { state, change } = decide(held.state, { kind: kind.value, value: Number(target.value) }, value, held.rungs.length, seconds());
    held.state = state;
    if (change) {
      Object.assign(held, { why: change.why, at: performance.now() });
      put(studio, held.rungs[change.rung].patch);
    }
    const present = held.rungs[held.state.rung].words;
    return write(said, held.why ? `Now ${present}: ${held.why}, ${age(performance.now() - held.at)}.` : `Now ${present}. Watching …`);
  });
}

const pick = (values, keys) => Object.fromEntries(keys.map((key) => [key, values[key]]));

// "Auto": settings and size move to keep a frame rate or a quality. What moves when is decided in hold.js.

import { make, options, write } from "./dom.js";
import { agreement, begin, built, decide, ladder, sizeOf, smaller } from "../pure/hold.js";
import { entry } from "../pure/settings.js";
import { abort, probe, put } from "./speed.js";
import { age } from "../pure/trial.js";

const GOALS = {
  fps: { value: 20, min: 1, max: 120, step: 1, unit: "fps" },
  quality: { value: 0.95, min: 0.5, max: 1, step: 0.005, unit: "SSIM" },
};

class Holding {
  constructor(studio, kind) {
    const { respec, settings: { values } } = studio;
    Object.assign(this, { studio, kind, asked: null, why: "", at: 0 });
    // A likeness is measured at one size: only a frame rate moves it.
    const sizes = kind === "fps" && respec.spec && !respec.refused ? [sizeOf(respec.spec), ...smaller(respec.spec)] : [];
    this.agreed = sizes[0] ?? null;
    this.rungs = ladder(values, sizes);
    [this.before] = this.rungs;
    if (kind === "quality") probe(studio, "auto");
    this.again();
  }

  get #rung() {
    return this.rungs[this.state.rung];
  }

  /** Another value of the goal: nothing seen so far counts. */
  again() {
    this.state = { ...begin(this.studio.clock()), rung: this.state?.rung ?? 0 };
  }

  /** Puts the settings back; the size to go back to, or null. */
  release() {
    const { studio, before: { size, patch } } = this;
    if (studio.trial) abort(studio, "Measuring has ended with Auto."); // it would put back what Auto has moved
    put(studio, patch);
    studio.probe?.give("auto");
    return size !== null && (this.asked !== null || size !== sizeOf(studio.respec.spec)) ? size : null;
  }

  /** Why holding has ended, or null. */
  disturbed() {
    const { settings, respec } = this.studio;
    const moved = Object.entries(this.#rung.patch).some(([key, value]) => key in settings.values && settings.values[key] !== value);
    if (!settings.busy && moved) return "you changed a setting that it moves.";
    return this.#size(respec) === "ended" ? "another size was chosen." : null;
  }

  #size({ spec, asked }) {
    const { agreed, asked: mine } = this;
    return agreement({ wanted: this.#rung.size, agreed, asked: mine }, sizeOf(spec), asked);
  }

  look(summary, value) {
    const { respec } = this.studio;
    const standing = this.#size(respec);
    if (standing === "go") {
      Object.assign(this, { agreed: sizeOf(respec.spec), asked: null });
      return this.#decide(this.kind === "fps" ? summary.output_fps : (summary.quality?.ssim ?? null), value);
    }
    if (standing === "ask") {
      this.asked = this.#rung.size;
      askSize(respec, this.asked);
    } else if (standing === "refused") {
      this.rungs = this.rungs.filter(({ size }) => size === sizeOf(respec.spec));
      Object.assign(this, { asked: null, why: respec.words || "another size was refused", at: performance.now() });
      this.state = { ...this.state, rung: this.rungs.length - 1 };
    }
    this.state = built(this.state, this.studio.clock());
  }

  #decide(figure, value) {
    const { state, change } = decide(this.state, { kind: this.kind, value }, figure, this.rungs, this.studio.clock());
    this.state = state;
    if (!change) return;
    Object.assign(this, { why: change.why, at: performance.now() });
    put(this.studio, this.#rung.patch);
  }

  get words() {
    const { words } = this.#rung;
    if (this.asked !== null) return `Switching to ${this.asked.replace("x", " × ")}; the stream continues.`;
    return this.why ? `Now ${words}: ${this.why}, ${age(performance.now() - this.at)}.` : `Now ${words}. Watching …`;
  }
}

function askSize(respec, size) {
  const [width, height] = size.split("x").map(Number);
  respec.ask({ width, height });
}

export function hold(host, studio) {
  const kind = make("select", { className: "rill-select", aria: { label: "Auto" } },
    ...options([["", "Auto: off"], ["fps", "Auto: keep fps"], ["quality", "Auto: keep quality"]]));
  const target = make("input", { type: "number", className: "rill-number", aria: { label: "Goal" } });
  const unit = make("span");
  const goal = make("label", { className: "rill-check", hidden: true }, target, unit);
  const said = make("p", { className: "rill-remark", aria: { live: "polite" } });
  host.append(make("div", { className: "rill-sourceline" }, kind, goal), said);
  let held = null;
  let owed = null; // the size to go back to after the change under way

  kind.addEventListener("change", () => {
    const { value = 0, unit: words = "", ...range } = GOALS[kind.value] ?? {};
    goal.hidden = !kind.value;
    Object.assign(target, range, { value });
    wanted = value;
    write(unit, words);
    owed = held?.release() ?? owed;
    held = studio.auto = null;
  });
  let wanted = 0; // the last valid goal
  target.addEventListener("input", () => {
    const { value, wrong } = entry({ kind: "number" }, target.value, { low: Number(target.min), high: Number(target.max) });
    target.setAttribute("aria-invalid", String(Boolean(wrong)));
    if (wrong) return write(said, wrong);
    wanted = value;
    return held?.again();
  });
  target.addEventListener("blur", () => {
    target.value = wanted;
    target.removeAttribute("aria-invalid");
  });

  studio.on("summary", (summary) => {
    const { respec } = studio;
    if (studio.paused || studio.link.state !== "live" || studio.trial) return;
    if (!held && respec.asked) return;
    if (owed) askSize(respec, owed);
    else if (!held && kind.value && !studio.settings.busy) held = studio.auto = new Holding(studio, kind.value);
    owed = null;
    if (!held) return write(said, "");
    const why = held.disturbed();
    if (why) {
      held = studio.auto = null; // the hand is stronger
      studio.probe?.give("auto");
      kind.value = "";
      goal.hidden = true;
      return studio.notice(`Auto is off: ${why}`, true);
    }
    held.look(summary, wanted);
    if (target.getAttribute("aria-invalid") !== "true") write(said, held.words);
  });
}

// What one acceleration buys: short windows with and without it, off, on, on, off, twice, so that drift falls on both sides. A window
// counts answers of its own settings version; its cost is the model's time per source frame, skipped ones included. Pure.

const ORDER = [false, true, true, false, false, true, true, false];
const FRAMES = 24; // answers per window,
const SHORTEST = 500; // ms at least
const LONGEST = 6000; // at most
const SETTLE = 3; // answers after a switch that do not count

/** [with, without] for a technique, or null where there is nothing to compare. */
export function sides(name, values) {
  if (["gate", "cache", "partial", "consistency"].includes(name)) return [{ [`${name}.enabled`]: true }, { [`${name}.enabled`]: false }];
  if (name === "stream_batch" && values.steps > 1) return [{ "stream_batch.enabled": true }, { "stream_batch.enabled": false }];
  if (name === "guidance" && values.guidance_mode !== "none") return [{ guidance_mode: values.guidance_mode }, { guidance_mode: "none" }];
  return null;
}

export class Trial {
  /** `frames` answers and `shortest` ms at least per window. */
  constructor({ frames = FRAMES, shortest = SHORTEST } = {}) {
    Object.assign(this, { frames, shortest });
    this.windows = ORDER.map((on) => ({ on, work: 0, frames: 0, ssim: [] }));
    this.index = 0;
    this.#begin();
  }

  get done() {
    return this.index >= this.windows.length;
  }

  get on() {
    return this.windows[Math.min(this.index, this.windows.length - 1)].on;
  }

  /** An answer at `now` (ms). True if its window is over. */
  add(answer, now) {
    if (this.done || !["generated", "cached", "skipped"].includes(answer.verdict)) return false;
    if (this.unsettled > 0) {
      this.unsettled -= 1;
      return false;
    }
    this.began ??= now;
    const window = this.windows[this.index];
    const { encode, denoise, decode } = answer.stages;
    window.work += answer.verdict === "skipped" ? 0 : encode + denoise + decode;
    window.frames += 1;
    if (answer.quality) window.ssim.push(answer.quality.ssim);
    const spent = now - this.began;
    if (spent < LONGEST && (window.frames < this.frames || spent < this.shortest)) return false;
    this.index += 1;
    this.#begin();
    return true;
  }

  #begin() {
    this.unsettled = SETTLE;
    this.began = null;
  }

  /** The change of a frame's cost, half the distance of its two repetitions, its likeness. */
  result() {
    const half = (from) => cost(this.windows.slice(from, from + 4), true) - cost(this.windows.slice(from, from + 4), false);
    const [first, second] = [half(0), half(4)];
    const ssim = this.windows.filter(({ on }) => on).flatMap((window) => window.ssim);
    return { ms: (first + second) / 2, spread: Math.abs(first - second) / 2, ssim: ssim.length ? ssim.reduce((a, b) => a + b) / ssim.length : null };
  }
}

function cost(windows, side) {
  const mine = windows.filter(({ on }) => on === side);
  const sum = (key) => mine.reduce((total, window) => total + window[key], 0);
  return sum("work") / Math.max(1, sum("frames"));
}

export function effectWords({ ms, spread, ssim, at }, now) {
  const sign = ms < 0 ? "−" : "+";
  const words = [`${sign}${Math.abs(ms).toFixed(1)} ± ${spread.toFixed(1)} ms a frame`];
  if (ssim !== null) words.push(`SSIM ${ssim.toFixed(3)}`);
  return `${words.join(", ")}, ${age(now - at)}`;
}

export function age(ms) {
  if (ms < 5000) return "just now";
  if (ms < 90000) return `${Math.round(ms / 1000)} s ago`;
  return ms < 5400000 ? `${Math.round(ms / 60000)} min ago` : `${Math.round(ms / 3600000)} h ago`;
}

// The settings as the server acknowledged them, and the patches on their way. Pure but for the two callbacks and the timer
// that it is given: `send(patch, request)` returns false while nobody listens, `changed(keys)` reports what controls must show.

const TEXT_DELAY = 180; // ms of rest before a half-typed prompt is sent
const QUICK_DELAY = 15; // sliders: several moves of one animation frame are one patch

export class SettingsStore {
  constructor({ send, changed = () => {}, refused = () => {}, later = setTimeout, cancel = clearTimeout }) {
    Object.assign(this, { send, changed, refused, later, cancel });
    this.fields = {};
    this.values = {}; // acknowledged
    this.shown = {}; // what the controls show
    this.version = -1;
    this.pending = {}; // not yet sent
    this.inFlight = null; // { request, patch }
    this.requests = 0;
    this.timer = null;
  }

  /** The user moved a control. Several moves before the server answers become one patch. */
  set(key, value) {
    const field = this.fields[key];
    const fit = field ? coerce(field, value) : value;
    if (fit === undefined) return;
    this.shown[key] = value;
    this.pending[key] = fit;
    this.#schedule(field?.kind === "text" ? TEXT_DELAY : QUICK_DELAY);
  }

  /** Something other than its control changed a value (a chip, a share link): the control has to follow at once. */
  put(key, value) {
    this.set(key, value);
    this.shown[key] = undefined;
    this.#schedule(0);
  }

  welcome({ version, values }, fields) {
    this.fields = fields;
    if (this.inFlight) this.pending = { ...this.inFlight.patch, ...this.pending };
    this.inFlight = null;
    this.#accept(version, values);
    if (Object.keys(this.pending).length) this.#schedule(0);
  }

  acknowledged({ version, values, request }) {
    if (this.inFlight && request === this.inFlight.request) this.inFlight = null;
    if (version < this.version) return;
    this.#accept(version, values);
    if (Object.keys(this.pending).length) this.#schedule(0);
  }

  /** The server refused a patch: the controls go back to what it acknowledged last. True if the error was ours. */
  failed({ request, field, message }) {
    if (!this.inFlight || request !== this.inFlight.request) return false;
    const keys = Object.keys(this.inFlight.patch);
    this.inFlight = null;
    for (const key of keys) this.shown[key] = undefined;
    this.refused(field ?? keys[0], message);
    this.#report();
    if (Object.keys(this.pending).length) this.#schedule(0);
    return true;
  }

  /** Whether a change waits for its acknowledgement. */
  get busy() {
    return this.inFlight !== null || Object.keys(this.pending).length > 0;
  }

  /** What is settled or under way: the settings a new session would have to start with. */
  wanted() {
    return { ...this.values, ...(this.inFlight?.patch ?? {}), ...this.pending };
  }

  #accept(version, values) {
    this.version = version;
    this.values = values;
    this.#report();
  }

  #report() {
    const open = { ...(this.inFlight?.patch ?? {}), ...this.pending };
    const keys = Object.keys(this.values).filter((key) => !(key in open) && !same(this.shown[key], this.values[key]));
    for (const key of keys) this.shown[key] = this.values[key];
    if (keys.length) this.changed(keys);
  }

  #schedule(delay) {
    if (this.timer !== null) this.cancel(this.timer);
    this.timer = this.later(() => this.#flush(), delay);
  }

  #flush() {
    this.timer = null;
    if (this.inFlight || !Object.keys(this.pending).length) return; // the acknowledgement flushes again
    const patch = this.pending;
    const request = ++this.requests;
    if (!this.send(patch, request)) return; // the next welcome flushes again
    this.pending = {};
    this.inFlight = { request, patch };
  }
}

/** `value` as the declared type, kept inside the declared range; undefined if it cannot be (an empty number box). */
export function coerce(field, value) {
  if (field.kind === "flag") return Boolean(value);
  if (field.kind === "text") return String(value ?? "").slice(0, field.limit);
  if (field.kind === "choice") return field.options.includes(value) ? value : undefined;
  const number = typeof value === "number" ? value : Number.parseFloat(value);
  if (!Number.isFinite(number)) return undefined;
  const inside = Math.min(field.high, Math.max(field.low, number));
  return field.kind === "integer" ? Math.round(inside) : inside;
}

function same(a, b) {
  return a === b || (typeof a === "number" && typeof b === "number" && Math.abs(a - b) < 1e-9);
}

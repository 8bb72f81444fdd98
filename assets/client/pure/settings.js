// The acknowledged settings, and patches on their way. Callbacks: `send(patch, request)` returns false while nobody listens;
// `changed(keys)`: controls must show others; `settled()`: values have changed; `refused(field, message)`. Else pure.

const TEXT_DELAY = 180; // ms that typed text rests
const QUICK_DELAY = 15; // moves of one animation frame are one patch

export class SettingsStore {
  constructor({ send, changed = () => {}, settled = () => {}, refused = () => {}, later = setTimeout, cancel = clearTimeout }) {
    Object.assign(this, { send, changed, settled, refused, later, cancel });
    this.fields = {};
    this.values = {}; // acknowledged
    this.shown = {}; // what the controls show
    this.version = -1;
    this.pending = {}; // not yet sent
    this.inFlight = null; // { request, patch }
    this.requests = 0;
    this.timer = null;
    this.held = null; // { key, composing }: somebody types there
  }

  /** The user moved a control; what is `typed` rests before it is sent. */
  set(key, value, typed = false) {
    const field = this.fields[key];
    const fit = field ? coerce(field, value) : value;
    if (fit === undefined) return;
    this.shown[key] = value;
    this.pending[key] = fit;
    this.#schedule(typed || field?.kind === "text" ? TEXT_DELAY : QUICK_DELAY);
  }

  /** Something else changed a value: its control follows at once. */
  put(key, value) {
    this.set(key, value);
    this.shown[key] = undefined;
    if (this.held?.key === key && !this.held.composing) this.held = null;
    this.#schedule(0);
  }

  /** Somebody types in the control of `key`: no answer changes what it shows. */
  hold(key, composing = false) {
    this.held = { key, composing };
  }

  /** The control was left: what was typed leaves without rest. */
  release(key) {
    if (this.held?.key !== key) return;
    this.held = null;
    this.#report();
    if (key in this.pending) this.#schedule(0);
  }

  /** What was typed has become invalid. */
  drop(key) {
    delete this.pending[key];
    this.shown[key] = undefined;
  }

  welcome({ version, values }, fields) {
    this.fields = fields;
    if (this.inFlight) this.pending = { ...this.inFlight.patch, ...this.pending };
    this.inFlight = null;
    this.#accept(version, values);
    this.#goOn();
  }

  acknowledged({ version, values, request }) {
    if (this.inFlight && request === this.inFlight.request) this.inFlight = null;
    if (version < this.version) return;
    this.#accept(version, values);
    this.#goOn();
  }

  /** The server refused a patch, as a whole. True if it was ours. What it did not refuse is sent again. */
  failed({ request, field, message }) {
    if (!this.inFlight || request !== this.inFlight.request) return false;
    const { patch } = this.inFlight;
    const { [field]: refused, ...others } = patch;
    this.inFlight = null;
    if (refused !== undefined) this.pending = { ...others, ...this.pending };
    for (const key of Object.keys(refused === undefined ? patch : { [field]: refused })) this.shown[key] = undefined;
    this.refused(field ?? Object.keys(patch)[0], message);
    this.#report();
    this.#goOn();
    return true;
  }

  get busy() {
    return this.inFlight !== null || this.#waits;
  }

  get #waits() {
    return Object.keys(this.pending).length > 0;
  }

  #goOn() {
    if (this.#waits) this.#schedule(0);
  }

  /** What a new session would start with. */
  wanted() {
    return { ...this.values, ...(this.inFlight?.patch ?? {}), ...this.pending };
  }

  #accept(version, values) {
    const before = this.values;
    this.version = version;
    this.values = values;
    this.#report();
    if (Object.keys(values).some((key) => !same(values[key], before[key]))) this.settled();
  }

  #report() {
    const open = { ...(this.inFlight?.patch ?? {}), ...this.pending };
    const free = (key) => !(key in open) && key !== this.held?.key;
    const keys = Object.keys(this.values).filter((key) => free(key) && !same(this.shown[key], this.values[key]));
    for (const key of keys) this.shown[key] = this.values[key];
    if (keys.length) this.changed(keys);
  }

  #schedule(delay) {
    if (this.timer !== null) this.cancel(this.timer);
    this.timer = this.later(() => this.#flush(), delay);
  }

  #flush() {
    this.timer = null;
    if (this.inFlight || !this.#waits) return; // its acknowledgement flushes again
    const patch = this.pending;
    const request = ++this.requests;
    if (!this.send(patch, request)) return; // the welcome flushes again
    this.pending = {};
    this.inFlight = { request, patch };
  }
}

/** { value } of a number's text, or { wrong } with what is allowed. `field` may be unknown yet. */
export function entry(field, text, { low = field?.low ?? -Infinity, high = field?.high ?? Infinity } = {}) {
  const value = text.trim() === "" ? NaN : Number(text);
  const whole = field?.kind === "integer";
  if (value >= low && value <= high && Number.isFinite(value) && (!whole || Number.isInteger(value))) return { value };
  const range = Number.isFinite(high - low) ? ` from ${low} to ${high}` : "";
  return { wrong: `Only ${whole ? "a whole number" : "a number"}${range}.` };
}

/** As the declared type, inside the declared range; undefined if it cannot be. */
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

/** A link that restores settings: what differs from the defaults, behind its # (never sent to a server). */
export function toHash(values, fields) {
  const parameters = new URLSearchParams();
  for (const [key, field] of Object.entries(fields)) {
    if (field && key in values && values[key] !== field.default) parameters.set(key, String(values[key]));
  }
  return parameters.toString();
}

export function fromHash(hash, fields) {
  return fitting(Object.fromEntries(new URLSearchParams(hash.replace(/^#/, ""))), fields);
}

/** Those of `values` (text or typed) that `fields` declares, made to fit. */
export function fitting(values, fields) {
  const known = {};
  for (const [key, given] of Object.entries(values)) {
    const field = Object.hasOwn(fields, key) ? fields[key] : null;
    if (field === null) continue;
    const value = field.kind === "flag" ? ({ true: true, false: false })[given] : coerce(field, given);
    if (value !== undefined) known[key] = value;
  }
  return known;
}

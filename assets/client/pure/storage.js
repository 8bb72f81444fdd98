// What this browser keeps; where storage is blocked, until the page goes.

const memory = new Map();

export function kept(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return memory.get(key) ?? null;
  }
}

/** null forgets the value. */
export function keep(key, value) {
  memory.set(key, value);
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // blocked or full: `memory` has it
  }
}

const MOST = 30;
const KEY = "rill.prompts";

export class History {
  constructor() {
    this.last = null;
    const items = kept(KEY);
    this.items = Array.isArray(items) ? items.filter((item) => typeof item === "string").slice(0, MOST) : []; // newest first
  }

  add(prompt) {
    const text = prompt.trim();
    if (!text) return;
    this.items = [text, ...this.items.filter((item) => item !== text)].slice(0, MOST);
    keep(KEY, this.items);
  }

  /** The earlier prompt, or null. */
  older(current) {
    return this.items[this.items.indexOf(current.trim()) + 1] ?? null;
  }

  newer(current) {
    return this.items[this.items.indexOf(current.trim()) - 1] ?? null;
  }
}

/** Soft at both ends, exact at the end. */
export function blendAt(from, to, seconds, elapsed) {
  const t = Math.min(1, Math.max(0, elapsed / seconds));
  if (t === 1) return to;
  return Math.round((from + (to - from) * t * t * (3 - 2 * t)) * 1000) / 1000;
}

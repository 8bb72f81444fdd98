// Earlier prompts, and the blend on its way from one prompt to another. Pure but for the storage that it is given.

const MOST = 30;
const KEY = "rill.prompts";

export class History {
  /** `storage` has getItem and setItem, or is null. */
  constructor(storage) {
    this.storage = storage;
    this.last = null; // the prompt seen last, kept or not
    const kept = read(storage);
    this.items = kept.slice(0, MOST); // newest first
  }

  add(prompt) {
    const text = prompt.trim();
    if (!text) return;
    this.items = [text, ...this.items.filter((item) => item !== text)].slice(0, MOST);
    this.storage?.setItem(KEY, JSON.stringify(this.items));
  }

  /** The prompt before `current` in time, null if there is none. */
  older(current) {
    return this.items[this.items.indexOf(current.trim()) + 1] ?? null;
  }

  newer(current) {
    return this.items[this.items.indexOf(current.trim()) - 1] ?? null;
  }
}

function read(storage) {
  try {
    const items = JSON.parse(storage?.getItem(KEY) ?? "[]");
    return Array.isArray(items) ? items.filter((item) => typeof item === "string") : [];
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

/** The blend after `elapsed` of `seconds` from `from` to `to`: soft at both ends, exact at the end. */
export function blendAt(from, to, seconds, elapsed) {
  const t = Math.min(1, Math.max(0, elapsed / seconds));
  if (t === 1) return to;
  return Math.round((from + (to - from) * t * t * (3 - 2 * t)) * 1000) / 1000;
}

// What this browser keeps between visits; a frame whose storage is blocked keeps it until the page goes.

const memory = new Map();

/** The value under `key`, or null. */
export function kept(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return memory.get(key) ?? null;
  }
}

/** Keeps a value that JSON can hold; null forgets it. */
export function keep(key, value) {
  memory.set(key, value);
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // blocked or full: `memory` has it
  }
}

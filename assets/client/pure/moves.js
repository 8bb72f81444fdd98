// A performance: the settings at its start and every change after it, with its second. Pure.

const FORMAT = "rill-performance-1";

export class Moves {
  /** `now` in ms of any clock. */
  constructor(settings, now) {
    this.settings = { ...settings };
    this.began = now;
    this.moves = [];
  }

  add(patch, now) {
    this.moves.push({ at: Math.round(now - this.began) / 1000, patch });
  }

  finish(now) {
    return { format: FORMAT, settings: this.settings, moves: this.moves, seconds: Math.round(now - this.began) / 1000 };
  }
}

/** What such a file holds, or null if it is none: times must rise and stay within its length. */
export function parseMoves(value) {
  if (value?.format !== FORMAT || !Array.isArray(value.moves) || !isObject(value.settings) || !(value.seconds >= 0)) return null;
  let last = 0;
  for (const { at, patch } of value.moves) {
    if (!(at >= last && at <= value.seconds) || !isObject(patch)) return null;
    last = at;
  }
  return { settings: value.settings, moves: value.moves, seconds: value.seconds };
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

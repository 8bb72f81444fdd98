// Holds a frame rate or a likeness by moving along a ladder of settings, from the best picture to the fastest. Pure.
//
// A rung that misses the goal is left for the next one; a better rung is tried after a quiet time, and one that has failed waits
// twice as long each time. So a steady machine sees few changes, and at most one every DWELL seconds.

export const DWELL = 4; // s on a rung before it is judged
const SETTLE = 1.5; // s after a change whose figures do not count
const QUIET = 8; // s of meeting the goal before a better rung is tried
const FIRST_BLOCK = 40; // s that a failed rung is left alone, doubled each time
const LAST_BLOCK = 480;
const PROVEN = 60; // s of holding after which earlier failures are forgiven
const FAR = 0.7; // of the goal: two rungs at once

/** The rungs under these settings, each { words, patch }; every patch names every key that any rung moves. */
export function ladder(values, sizes = []) {
  const rungs = [{ words: "your settings", patch: {} }];
  const add = (words, patch) => rungs.push({ words, patch: { ...rungs.at(-1).patch, ...patch } });
  for (let steps = values.steps - 1; steps >= 1; steps--) add(`${steps} ${steps > 1 ? "steps" : "step"}`, { steps });
  if (!values["gate.enabled"]) add("similarity gate on", { "gate.enabled": true });
  const [branch, interval] = values["cache.enabled"] ? [values["cache.branch"], values["cache.interval"]] : [Infinity, 1];
  for (const [b, k] of [[2, 2], [0, 2], [0, 3], [0, 4], [0, 6]]) {
    if (b > branch || k < interval || (b === branch && k === interval)) continue;
    add(`cache: every ${k} frames, re-entry ${b}`, { "cache.enabled": true, "cache.policy": "interval", "cache.interval": k, "cache.branch": b });
  }
  for (const eta of [0.95, 0.9]) if (values["gate.threshold"] > eta) add(`gate threshold ${eta}`, { "gate.threshold": eta });
  for (const size of sizes) add(`${size} × ${size} pixels`, { size });
  const keys = [...new Set(rungs.flatMap(({ patch }) => Object.keys(patch)))];
  const base = Object.fromEntries(keys.filter((key) => key in values).map((key) => [key, values[key]]));
  return rungs.map(({ words, patch }) => ({ words, patch: { ...base, ...patch } }));
}

/** `now` in seconds. */
export function begin(now) {
  return { rung: 0, since: now, seen: [], blocked: {}, trial: false };
}

/**
 * One look at the telemetry: `value` is the present frame rate (goal.kind "fps") or SSIM ("quality"), null if unknown.
 * Returns { state, change }; change is null or { rung, why }.
 */
export function decide(state, goal, value, count, now) {
  const rested = now - state.since;
  if (value === null || rested < SETTLE) return { state, change: null };
  const seen = [...state.seen, { at: now, value }].filter(({ at }) => now - at <= QUIET);
  const next = { ...state, seen };
  if (rested < DWELL || seen.length < 3) return { state: next, change: null };
  const worse = goal.kind === "fps" ? 1 : -1; // the way to go when the goal is missed
  const recent = middle(seen.filter(({ at }) => now - at <= DWELL).map((item) => item.value));
  if (recent < goal.value * (goal.kind === "fps" ? 0.97 : 1)) return missed(next, goal, recent, worse, count, now);
  const better = state.rung - worse;
  if (rested < QUIET || better < 0 || better >= count || (state.blocked[better]?.until ?? 0) > now) {
    const blocked = rested >= PROVEN ? { ...state.blocked, [state.rung]: undefined } : state.blocked;
    return { state: { ...next, blocked, trial: state.trial && rested < QUIET }, change: null };
  }
  return move(next, better, true, `${shown(goal, recent)} leaves room`, now);
}

function missed(state, goal, value, worse, count, now) {
  const times = (state.blocked[state.rung]?.times ?? 0) + 1;
  const until = now + Math.min(LAST_BLOCK, FIRST_BLOCK * 2 ** (times - 1));
  const blocked = { ...state.blocked, [state.rung]: { until, times } };
  const far = goal.kind === "fps" && value < FAR * goal.value && !state.trial;
  const rung = Math.min(count - 1, Math.max(0, state.rung + worse * (far ? 2 : 1)));
  if (rung === state.rung) return { state: { ...state, blocked }, change: null }; // nothing is left to do
  return move({ ...state, blocked }, rung, false, `${shown(goal, value)} missed ${shown(goal, goal.value)}`, now);
}

function move(state, rung, trial, why, now) {
  return { state: { ...state, rung, trial, since: now, seen: [] }, change: { rung, why } };
}

const shown = ({ kind }, value) => (kind === "fps" ? `${value.toFixed(1)} fps` : `SSIM ${value.toFixed(3)}`);

function middle(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

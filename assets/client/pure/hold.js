// Holds a frame rate or a likeness by moving along a ladder of settings, from the best picture to the fastest. Pure.
//
// docs/client.md, "Measuring and holding", has the rules. A rung that misses is left; a better one is tried after a quiet time; one
// that failed waits twice as long each time. A move to another size needs more patience.

export const DWELL = 4; // s on a rung before it is judged
const SETTLE = 1.5; // s after a change whose figures do not count
const QUIET = 8; // s without a miss before a better rung is tried
const FIRST_BLOCK = 40; // s a failed rung is left alone, doubled each time
const LAST_BLOCK = 480;
const PROVEN = 60; // s after which earlier failures are forgiven
const FAR = 0.7; // of the goal: two rungs at once
const HEAVY = { dwell: 12, quiet: 45, block: 120 }; // s; for a move to another size

export const sizeOf = ({ width, height }) => `${width}x${height}`;

/** About 3/4 and 1/2 of each side, the same shape, multiples of 64 from 256 on. */
export function smaller({ width, height }) {
  const found = [0.75, 0.5].map((share) => [width, height].map((side) => 64 * Math.round((share * side) / 64)));
  const alike = found.filter(([w, h]) => Math.abs((w * height) / (h * width) - 1) < 0.01);
  const fit = alike.filter(([w, h], index) => Math.min(w, h) >= 256 && w < width && sizeOf({ width: w, height: h }) !== alike[index - 1]?.join("x"));
  return fit.map(([w, h]) => sizeOf({ width: w, height: h }));
}

/**
 * Rungs { words, patch, size }; every patch names every key that any rung moves. `sizes`: the present one first; without any, sizes
 * are not moved. Skipping is no rung: a repeated picture meets no rate.
 */
export function ladder(values, sizes = []) {
  const rungs = [{ words: "your settings", patch: {}, size: sizes[0] ?? null }];
  const add = (words, patch, size = rungs.at(-1).size) => rungs.push({ words, patch: { ...rungs.at(-1).patch, ...patch }, size });
  for (let steps = values.steps - 1; steps >= 1; steps--) add(`${steps} ${steps > 1 ? "steps" : "step"}`, { steps });
  const [branch, interval] = values["cache.enabled"] ? [values["cache.branch"], values["cache.interval"]] : [Infinity, 1];
  // From branch 1 on short passes cascade: cheaper than branch 0 alone, and better.
  for (const [b, k] of branch ? [[2, 2], [1, 3], [1, 4], [1, 6], [0, 6]] : [[0, 2], [0, 3], [0, 4], [0, 6]]) {
    if (b > branch || k < interval || (b === branch && k === interval)) continue;
    const moved = { "cache.enabled": true, "cache.policy": "interval", "cache.interval": k, "cache.branch": b, "cache.cascade": true };
    add(`cache: full pass every ${k} frames, depth ${b}`, moved);
  }
  for (const size of sizes.slice(1)) add(`${size.replace("x", " × ")} pixels`, {}, size);
  const keys = [...new Set(rungs.flatMap(({ patch }) => Object.keys(patch)))];
  const base = Object.fromEntries(keys.filter((key) => key in values).map((key) => [key, values[key]]));
  return rungs.map(({ words, patch, size }) => ({ words, patch: { ...base, ...patch }, size }));
}

/** `now` in seconds. */
export function begin(now) {
  return { rung: 0, since: now, seen: [], blocked: {}, trial: false };
}

/** While another size is built and just after, nothing seen counts. */
export function built(state, now) {
  return { ...state, since: now, seen: [] };
}

/**
 * About the size `wanted`: "go" (it is there, or none is wanted), "wait" (a change is under way), "ask", "refused" (`asked` for in
 * vain), "ended" (somebody chose another one than `agreed`).
 */
export function agreement({ wanted, agreed, asked }, present, busy) {
  if (busy) return "wait";
  if (wanted === null || wanted === present) return "go";
  if (asked === wanted) return "refused";
  return present === agreed ? "ask" : "ended";
}

/**
 * `value`: the present frame rate (goal.kind "fps") or SSIM, null if unknown. Returns { state, change }, change null or
 * { rung, why }.
 */
export function decide(state, goal, value, rungs, now) {
  const rested = now - state.since;
  if (value === null || rested < SETTLE) return { state, change: null };
  const seen = [...state.seen, { at: now, value }].filter(({ at }) => now - at <= QUIET);
  const next = { ...state, seen };
  if (rested < DWELL || seen.length < 3) return { state: next, change: null };
  const worse = goal.kind === "fps" ? 1 : -1; // the way to go after a miss
  const recent = middle(seen.filter(({ at }) => now - at <= DWELL).map((item) => item.value));
  if (recent < goal.value * (goal.kind === "fps" ? 0.97 : 1)) return missed(next, goal, recent, worse, rungs, now);
  const better = state.rung - worse;
  const quiet = heavy(rungs, state.rung, better) ? HEAVY.quiet : QUIET;
  if (rested < quiet || better < 0 || better >= rungs.length || (state.blocked[better]?.until ?? 0) > now) {
    const blocked = rested >= PROVEN ? { ...state.blocked, [state.rung]: undefined } : state.blocked;
    return { state: { ...next, blocked, trial: state.trial && rested < quiet }, change: null };
  }
  return move(next, better, true, `${shown(goal, recent)} leaves room`, now);
}

function missed(state, goal, value, worse, rungs, now) {
  const at = (steps) => Math.min(rungs.length - 1, Math.max(0, state.rung + worse * steps));
  const far = goal.kind === "fps" && value < FAR * goal.value && !state.trial && !heavy(rungs, state.rung, at(2));
  const rung = at(far ? 2 : 1);
  const costly = heavy(rungs, state.rung, rung);
  if (costly && now - state.since < HEAVY.dwell) return { state, change: null };
  const times = (state.blocked[state.rung]?.times ?? 0) + 1;
  const until = now + Math.min(LAST_BLOCK, (costly ? HEAVY.block : FIRST_BLOCK) * 2 ** (times - 1));
  const blocked = { ...state.blocked, [state.rung]: { until, times } };
  if (rung === state.rung) return { state: { ...state, blocked }, change: null };
  return move({ ...state, blocked }, rung, false, `${shown(goal, value)} missed ${shown(goal, goal.value)}`, now);
}

/** Does a move between these rungs build another pipeline? */
function heavy(rungs, from, to) {
  return rungs[from]?.size !== rungs[to]?.size;
}

function move(state, rung, trial, why, now) {
  return { state: { ...state, rung, trial, since: now, seen: [] }, change: { rung, why } };
}

const shown = ({ kind }, value) => (kind === "fps" ? `${value.toFixed(1)} fps` : `SSIM ${value.toFixed(3)}`);

function middle(values) {
  return Float64Array.from(values).sort()[values.length >> 1];
}

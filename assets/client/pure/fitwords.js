// How the fit of a style stands, in words. Pure.

const core = (share) => (Math.abs(share - 0.5) < 0.05 ? "half of a core" : share > 0.95 ? "one core" : `${percent(share)} of a core`);
const percent = (share) => `${Math.round(100 * share)}%`;

/** { share: of the fit that is done, or null; words; more: what the button beside them does, or "" }. `fit`: the last message, or null. */
export function fitWords(fit, wanted) {
  if (fit === null || fit.state === "stopped") return { share: null, words: fit && !wanted ? "Fitting is stopped; what it has found stays." : "", more: fit && !wanted ? "Go on" : "" };
  const { state, place, done = 0, gain = 0, share = 0, message = "" } = fit;
  if (state === "waiting") return { share: 0, words: `waits for ${place > 1 ? `${place} other pictures` : "another picture"} to be fitted first`, more: "Stop" };
  if (state === "fitting" && !done) return { share: 0, words: "the fit starts: its process loads the model first", more: "Stop" };
  if (state === "fitting") return { share: done, words: `fitting: ${percent(done)}, ${percent(gain)} nearer, uses ${core(share)}`, more: "Stop" };
  if (state === "failed") return { share: null, words: `The fit has failed: ${message}. The best style so far stays.`, more: "" };
  return { share: null, words: `fitted: ${percent(gain)} nearer to the picture`, more: "" };
}

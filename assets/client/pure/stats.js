// Numbers about the stream by verdict over a sliding window. Pure; times in ms.

import { STAGES } from "../wire/protocol.js";

const WINDOW = 4000;
const COUNTED = ["generated", "cached", "skipped", "warming", "dropped", "failed"];

/** Nearest rank; null for no values. */
export function percentile(values, share) {
  if (!values.length) return null;
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

export const median = (values) => percentile(values, 0.5);

export class Stats {
  constructor(window = WINDOW) {
    this.window = window;
    this.clear(0);
  }

  clear(now) {
    this.since = now;
    this.answers = []; // { at, verdict, stages, wait, bytes }
    this.painted = []; // { at, latency, took }
    this.sources = []; // times
    this.sent = []; // { at, bytes, took }
    this.rtt = null;
    this.quality = null;
    this.totals = Object.fromEntries(COUNTED.map((verdict) => [verdict, 0])); // for measurements
  }

  offered(at) {
    this.sources.push(at);
  }

  /** A frame left for the server `took` ms after its capture. */
  left(at, bytes, took) {
    this.sent.push({ at, bytes, took });
  }

  answered(at, answer, bytes) {
    this.answers.push({ at, verdict: answer.verdict, stages: answer.stages, wait: answer.wait, bytes });
    this.totals[answer.verdict] += 1;
    if (answer.quality) this.quality = { ...answer.quality, at };
  }

  /** Frames that were settled without an answer of their own. */
  lost(at, count) {
    for (let i = 0; i < count; i++) this.answers.push({ at, verdict: "dropped", stages: null, wait: 0, bytes: 0 });
  }

  /** A picture was painted `latency` ms after its capture, decoding `took` of it. */
  shown(at, latency, took) {
    this.painted.push({ at, latency, took });
  }

  summary(now) {
    this.#forget(now - this.window);
    const seconds = Math.max(1, Math.min(this.window, now - this.since)) / 1000;
    const counts = Object.fromEntries(COUNTED.map((verdict) => [verdict, 0]));
    for (const { verdict } of this.answers) counts[verdict] += 1;
    const rate = (count) => count / seconds;
    const latencies = this.painted.map(({ latency }) => latency);
    const worked = this.answers.filter(({ verdict }) => verdict === "generated" || verdict === "cached");
    const model = (kind) => median(worked.filter(({ verdict }) => verdict === kind).map(({ stages }) => stages.encode + stages.denoise + stages.decode));
    const took = (items, share) => percentile(items.map((item) => item.took), share) ?? 0;
    const parts = (share) => ({
      stages: Object.fromEntries(STAGES.map((stage) => [stage, percentile(worked.map(({ stages }) => stages[stage]), share) ?? 0])),
      wait: percentile(worked.map(({ wait }) => wait), share),
      before: took(this.sent, share),
      after: took(this.painted, share),
    });
    return {
      counts,
      rates: Object.fromEntries(COUNTED.map((verdict) => [verdict, rate(counts[verdict])])), // per second
      output_fps: rate(this.painted.length + counts.skipped),
      input_fps: rate(this.sources.length),
      new_fps: rate(this.painted.length), // without repeats
      latency: { p50: percentile(latencies, 0.5), p95: percentile(latencies, 0.95) },
      model: { generated: model("generated"), cached: model("cached") }, // ms of one picture
      ...parts(0.5),
      worst: parts(0.95),
      up: rate(this.sent.reduce((sum, { bytes }) => sum + bytes, 0)),
      down: rate(this.answers.reduce((sum, { bytes }) => sum + bytes, 0)),
      rtt: this.rtt,
      quality: this.quality && now - this.quality.at < 15000 ? this.quality : null,
    };
  }

  #forget(before) {
    if (this.sources.length && this.sources[0] < before) this.sources = this.sources.filter((at) => at >= before);
    for (const name of ["answers", "painted", "sent"]) {
      if (this[name].length && this[name][0].at < before) this[name] = this[name].filter(({ at }) => at >= before);
    }
  }
}

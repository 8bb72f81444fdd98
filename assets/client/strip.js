// Live numbers: pictures by verdict, glass to glass, where the time goes. Twice a second, text and a few widths only.

import { make, write } from "./dom.js";
import { Sparkline } from "./sparkline.js";

const EVERY = 500; // ms
const VERDICTS = [
  ["generated", "full passes of the model"],
  ["cached", "shallow passes that reused features of an earlier frame"],
  ["skipped", "the gate found the input unchanged; the last picture stays"],
  ["dropped", "frames that were too old or were overtaken by newer ones"],
];
const BARS = [
  ["encode", "encode", ({ stages }) => stages.encode],
  ["denoise", "denoise", ({ stages }) => stages.denoise],
  ["decode", "decode", ({ stages }) => stages.decode],
  ["wait", "waiting", ({ wait }) => wait ?? 0],
  ["codec", "JPEG", ({ stages }) => stages.unpack + stages.pack + stages.gate],
  ["browser", "browser", ({ before, after }) => before + after],
  ["rest", "network, sockets", null],
];

export function strip(host, studio) {
  const shown = figure("shown", "fps shown", "distinct source frames answered in time, skips included");
  const counts = VERDICTS.map(([name, title]) => figure(name, name, title));
  const p50 = figure("p50", "ms p50", "half of the pictures took less from capture to paint, by the browser's own clock");
  const p95 = figure("p95", "ms p95", "one picture in twenty took longer from capture to paint");
  const line = new Sparkline(120);
  const bar = make("div", { className: "rill-bar", aria: { role: "img", label: "Where the time goes" } });
  const legend = make("ul", { className: "rill-legend" });
  const segments = BARS.map(([name, label]) => segment(bar, legend, name, label));
  const traffic = make("div", { className: "rill-traffic" });
  host.append(
    group("Pictures per second", make("div", { className: "rill-figures" }, shown.element, ...counts.map(({ element }) => element))),
    group("Glass to glass", make("div", { className: "rill-figures" }, p50.element, p95.element, line.canvas)),
    group("Where the time goes", bar, legend),
    traffic,
  );

  setInterval(() => {
    if (document.hidden) return;
    const summary = studio.stats.summary(performance.now());
    write(shown.value, rate(summary.shown));
    VERDICTS.forEach(([name], index) => {
      write(counts[index].value, rate(summary.fps[name]));
      counts[index].element.dataset.idle = String(summary.counts[name] === 0);
    });
    write(p50.value, ms(summary.latency.p50));
    write(p95.value, ms(summary.latency.p95));
    line.add(summary.latency.p50, summary.latency.p95);
    paintBar(segments, summary, bar);
    write(traffic, trafficWords(summary, studio.telemetry));
    studio.say("summary", summary);
  }, EVERY);
}

function group(title, ...children) {
  return make("section", { className: "rill-group" }, make("h2", { textContent: title }), ...children);
}

function figure(name, label, title) {
  const value = make("b", { textContent: "–", dataset: { figure: name } });
  return { value, element: make("div", { className: "rill-figure", title, dataset: { name } }, value, make("span", { textContent: label })) };
}

function segment(bar, legend, name, label) {
  const part = make("i", { dataset: { stage: name } });
  const value = make("b");
  const row = make("li", { dataset: { stage: name } }, make("i", { aria: { hidden: "true" } }), make("span", { textContent: label }), value);
  bar.append(part);
  legend.append(row);
  return { name, part, row, value };
}

function paintBar(segments, summary, bar) {
  const known = BARS.map(([, , of]) => (of ? of(summary) : 0));
  const sum = known.reduce((a, b) => a + b, 0);
  const whole = Math.max(summary.latency.p50 ?? 0, sum);
  known[known.length - 1] = whole - sum;
  segments.forEach(({ part, value, row }, index) => {
    const share = whole > 0 ? known[index] / whole : 0;
    part.style.flexGrow = share.toFixed(4);
    row.hidden = share < 0.005;
    write(value, known[index].toFixed(known[index] < 9.95 ? 1 : 0));
  });
  bar.setAttribute("aria-label", `Where the time goes, in milliseconds: ${segments.map(({ name, value }) => `${name} ${value.textContent}`).join(", ")}`);
}

function trafficWords(summary, telemetry) {
  const words = [`input ${rate(summary.offered)} fps`];
  if (summary.rtt !== null) words.push(`round trip ${ms(summary.rtt)} ms`);
  words.push(`↑ ${kilobytes(summary.up)}`, `↓ ${kilobytes(summary.down)} kB/s`);
  if (typeof telemetry?.queue_age_ms === "number") words.push(`queue age ${ms(telemetry.queue_age_ms)} ms`);
  if (telemetry?.sessions > 1) words.push(`${telemetry.sessions} visitors`);
  return words.join("  ·  ");
}

const rate = (value) => (value >= 99.5 ? value.toFixed(0) : value.toFixed(1));
const ms = (value) => (value === null ? "–" : value.toFixed(value < 9.95 ? 1 : 0));
const kilobytes = (value) => (value / 1000).toFixed(0);

// Live numbers and their last two minutes, twice a second.

import { Chart } from "./chart.js";
import { make, write } from "./dom.js";

const EVERY = 500; // ms
const VERDICTS = [
  ["generated", "full passes of the model"],
  ["cached", "shallow passes that reused features of an earlier frame"],
  ["skipped", "the gate found the input unchanged; the last picture stays"],
  ["dropped", "frames that were too old or were overtaken by newer ones"],
];
const STAGES = [
  ["encode", "encode", ({ stages }) => stages.encode, ({ stages95 }) => stages95.encode],
  ["denoise", "denoise", ({ stages }) => stages.denoise, ({ stages95 }) => stages95.denoise],
  ["decode", "decode", ({ stages }) => stages.decode, ({ stages95 }) => stages95.decode],
  ["wait", "waiting", ({ wait }) => wait ?? 0, ({ wait95 }) => wait95],
  ["codec", "JPEG", ({ stages }) => stages.unpack + stages.pack + stages.gate, ({ stages95 }) => stages95.unpack + stages95.pack + stages95.gate],
  ["browser", "browser", ({ before, after }) => before + after, ({ before95, after95 }) => before95 + after95],
  ["rest", "network, sockets", null, null],
];

export function strip(host, studio) {
  const shown = figure("shown", "fps", "new pictures per second; what is shown again is counted as skipped");
  const counts = VERDICTS.map(([name, title]) => figure(name, name, title));
  const p50 = figure("p50", "ms median", "half of the pictures took less from capture to paint, by the browser's own clock");
  const p95 = figure("p95", "ms p95", "one picture in twenty took longer from capture to paint");
  const rates = new Chart("fps by verdict", VERDICTS.map(([name]) => `--v-${name}`), { stacked: true, floor: 5 });
  const latency = new Chart("Delay", ["--v-generated", "--v-cached"], { floor: 20 });
  const stack = new Chart("Where the time goes", STAGES.map(([name]) => `--s-${name}`), { stacked: true, floor: 20 });
  const legend = STAGES.map(([name, label]) => {
    const [value, worst] = [make("b"), make("span", { className: "rill-p95" })];
    return { value, worst, row: make("li", { dataset: { stage: name } }, make("i", { aria: { hidden: "true" } }), make("span", { textContent: label }), value, worst) };
  });
  const traffic = make("div", { className: "rill-traffic" });
  host.append(
    group("fps", make("div", { className: "rill-figures" }, shown.element, ...counts.map(({ element }) => element)), rates.canvas),
    group("Delay", make("div", { className: "rill-figures" }, p50.element, p95.element), latency.canvas),
    group("Where the time goes: ms median, p95", make("ul", { className: "rill-legend" }, ...legend.map(({ row }) => row)), stack.canvas),
    traffic,
  );

  setInterval(() => {
    if (document.hidden) return;
    const summary = studio.stats.summary(performance.now());
    write(shown.value, rate(summary.new_fps));
    VERDICTS.forEach(([name], index) => {
      write(counts[index].value, rate(summary.rates[name]));
      counts[index].element.dataset.idle = String(summary.counts[name] === 0);
    });
    rates.add(VERDICTS.map(([name]) => summary.rates[name]), `${rate(summary.new_fps)} new`);
    const { p50: half, p95: most } = summary.latency;
    write(p50.value, ms(half));
    write(p95.value, ms(most));
    latency.add([half, most], `half within ${ms(half)} ms, 95% within ${ms(most)} ms`);
    const parts = timeParts(summary);
    legend.forEach(({ value, worst, row }, index) => {
      const most = STAGES[index][3]?.(summary) ?? null;
      row.hidden = parts[index] < 0.05;
      write(value, ms(parts[index]));
      write(worst, most === null ? "" : ms(most));
    });
    stack.add(parts, STAGES.map(([, label], index) => `${label} ${ms(parts[index])} ms`).join(", "));
    write(traffic, trafficWords(summary, studio.telemetry));
    studio.say("summary", summary);
  }, EVERY);
}

export function quality(host, studio) {
  const ssim = figure("ssim", "SSIM", "likeness to the full quality picture of the same frame; 1 is the same");
  const psnr = figure("psnr", "dB PSNR", "40 and more is hard to see");
  const flicker = figure("flicker", "flicker", "change from picture to picture where the input stands still, of 255");
  const chart = new Chart("SSIM", ["--v-generated"], { floor: 1, low: 0.8 });
  const body = group("", make("div", { className: "rill-figures" }, ssim.element, psnr.element, flicker.element), chart.canvas);
  host.append(body);
  studio.on("summary", ({ quality: now }) => {
    body.hidden = !studio.settings.values["probe.enabled"];
    write(ssim.value, now ? now.ssim.toFixed(3) : "–");
    write(psnr.value, now ? now.psnr.toFixed(1) : "–");
    write(flicker.value, typeof now?.flicker === "number" ? now.flicker.toFixed(1) : "–");
    if (!body.hidden) chart.add([now?.ssim ?? null], now ? now.ssim.toFixed(3) : "no comparison yet");
  });
}

function group(title, ...children) {
  return make("section", { className: "rill-group" }, title ? make("h2", { textContent: title }) : null, ...children);
}

function figure(name, label, title) {
  const value = make("b", { textContent: "–", dataset: { figure: name } });
  return { value, element: make("div", { className: "rill-figure", title, dataset: { name } }, value, make("span", { textContent: label })) };
}

function timeParts(summary) {
  const known = STAGES.map(([, , of]) => (of ? of(summary) : 0));
  const sum = known.reduce((a, b) => a + b, 0);
  known[known.length - 1] = Math.max(0, (summary.latency.p50 ?? 0) - sum);
  return known;
}

function trafficWords(summary, telemetry) {
  const words = [`input ${rate(summary.input_fps)} fps`];
  if (summary.rtt !== null) words.push(`round trip ${ms(summary.rtt)} ms`);
  words.push(`↑ ${kilobytes(summary.up)}`, `↓ ${kilobytes(summary.down)} kB/s`);
  if (typeof telemetry?.queue_age_ms === "number") words.push(`queue age ${ms(telemetry.queue_age_ms)} ms`);
  if (telemetry?.sessions > 1) words.push(`${telemetry.sessions} visitors`);
  return words.join("  ·  ");
}

const rate = (value) => (value >= 99.5 ? value.toFixed(0) : value.toFixed(1));
const ms = (value) => (value === null ? "–" : value.toFixed(value < 9.95 ? 1 : 0));
const kilobytes = (value) => (value / 1000).toFixed(0);

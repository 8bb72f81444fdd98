// Live numbers and their last two minutes, twice a second.

import { Chart } from "./chart.js";
import { make, write } from "./dom.js";

const VERDICTS = [
  ["generated", "full passes of the model"],
  ["cached", "shallow passes that reused features of an earlier frame"],
  ["skipped", "the gate found the input unchanged; the last picture stays"],
  ["dropped", "frames that were too old or were overtaken by newer ones"],
];
const STAGES = { encode: "encode", denoise: "denoise", decode: "decode", wait: "waiting", codec: "JPEG", browser: "browser", rest: "network, sockets" };

export function strip(host, studio) {
  const shown = figure("shown", "fps", "new pictures per second; what is shown again is counted as skipped");
  const counts = VERDICTS.map(([name, title]) => figure(name, name, title, `--v-${name}`));
  const p50 = figure("p50", "ms median", "half of the pictures took less from capture to paint, by the browser's own clock");
  const p95 = figure("p95", "ms p95", "one picture in twenty took longer from capture to paint");
  const rates = new Chart("fps by verdict", VERDICTS.map(([name]) => `--v-${name}`), { stacked: true, floor: 5 });
  const latency = new Chart("Delay", ["--v-generated", "--v-cached"], { floor: 20 });
  const stack = new Chart("Where the time goes", Object.keys(STAGES).map((name) => `--s-${name}`), { stacked: true, floor: 20 });
  const legend = Object.entries(STAGES).map(([name, label]) => {
    const [value, worst] = [make("b"), make("span", { className: "rill-p95" })];
    return { name, label, value, worst, row: make("li", { style: `--c: var(--s-${name})` }, make("i", { aria: { hidden: "true" } }), make("span", { textContent: label }), value, worst) };
  });
  const traffic = make("div", { className: "rill-traffic" });
  host.append(
    group("fps", make("div", { className: "rill-figures" }, shown.element, ...counts.map(({ element }) => element)), rates.canvas),
    group("Delay", make("div", { className: "rill-figures" }, p50.element, p95.element), latency.canvas),
    group("Where the time goes: ms median, p95", make("ul", { className: "rill-legend" }, ...legend.map(({ row }) => row)), stack.canvas),
    traffic,
  );

  const draw = (summary, parts) => {
    const { p50: half, p95: most } = summary.latency;
    rates.add(VERDICTS.map(([name]) => summary.rates[name]), `${rate(summary.new_fps)} new`);
    latency.add([half, most], `half within ${ms(half)} ms, 95% within ${ms(most)} ms`);
    stack.add(legend.map(({ name }) => parts[name]), legend.map(({ name, label }) => `${label} ${ms(parts[name])} ms`).join(", "));
  };
  studio.on("summary", (summary) => {
    write(shown.value, rate(summary.new_fps));
    VERDICTS.forEach(([name], index) => {
      write(counts[index].value, rate(summary.rates[name]));
      counts[index].element.dataset.idle = String(summary.counts[name] === 0);
    });
    write(p50.value, ms(summary.latency.p50));
    write(p95.value, ms(summary.latency.p95));
    const [parts, most] = [timeParts(summary), knownParts(summary.worst)];
    for (const { name, value, worst, row } of legend) {
      row.hidden = parts[name] < 0.05;
      write(value, ms(parts[name]));
      write(worst, name in most ? ms(most[name]) : "");
    }
    draw(summary, parts);
    write(traffic, trafficWords(summary, studio.telemetry));
  });
  for (const summary of studio.summaries) draw(summary, timeParts(summary)); // from before the drawer opened
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
  for (const { quality: then } of studio.summaries) if (then) chart.add([then.ssim], then.ssim.toFixed(3));
}

function group(title, ...children) {
  return make("section", { className: "rill-group" }, title ? make("h2", { textContent: title }) : null, ...children);
}

/** `colour`: the CSS variable of its mark, if it has one. */
function figure(name, label, title, colour = null) {
  const value = make("b", { textContent: "–", dataset: { figure: name } });
  const marked = colour && { style: `--c: var(${colour})`, dataset: { name, colour } };
  return { value, element: make("div", { className: "rill-figure", title, dataset: { name }, ...marked }, value, make("span", { textContent: label })) };
}

const knownParts = ({ stages, wait, before, after }) => ({
  encode: stages.encode, denoise: stages.denoise, decode: stages.decode, wait: wait ?? 0, codec: stages.unpack + stages.pack + stages.gate, browser: before + after,
});

function timeParts(summary) {
  const known = knownParts(summary);
  const sum = Object.values(known).reduce((a, b) => a + b, 0);
  return { ...known, rest: Math.max(0, (summary.latency.p50 ?? 0) - sum) };
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

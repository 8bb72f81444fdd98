// The bar at the top: name, state of the connection in words, what the engine runs.

import { words } from "../wire/link.js";
import { make, write } from "./dom.js";

const WAVE = '<svg viewBox="0 0 28 20" aria-hidden="true" class="rill-wave"><path d="M2 6c4-5 8 5 12 0s8 5 12 0M2 14c4-5 8 5 12 0s8 5 12 0"/></svg>';

export function top(host, studio) {
  const dot = make("span", { className: "rill-dot", aria: { hidden: "true" } });
  const text = make("span", { className: "rill-words" });
  const status = make("div", { className: "rill-status", aria: { role: "status", live: "polite" } }, dot, text);
  const retry = make("button", { type: "button", className: "rill-link", hidden: true, on: { click: () => studio.connection.connect() } });
  retry.textContent = "Connect now";
  const engine = make("div", { className: "rill-engine" });
  const title = make("h1", { className: "rill-name" });
  title.innerHTML = `${WAVE}<span>Rill</span>`;
  host.append(title, make("div", { className: "rill-statusline" }, status, retry), engine);

  const update = () => {
    const { tone, text: sentence, action } = words(studio.link, performance.now());
    status.dataset.tone = tone;
    status.dataset.state = studio.link.state;
    write(text, sentence);
    retry.hidden = action !== "retry";
  };
  studio.addEventListener("link", update);
  studio.addEventListener("source", update);
  studio.addEventListener("welcome", ({ detail: { spec, model } }) => {
    const device = spec.device === "cpu" ? "CPU" : spec.device.toUpperCase();
    const name = (model.title ?? model.name).split(":")[0];
    write(engine, `${name} · ${spec.width} × ${spec.height} · ${spec.backend} · ${device}`);
    engine.title = `${model.title ?? model.name}: ${spec.model}, ${spec.dtype}, up to ${spec.max_steps} steps`;
  });
  setInterval(update, 500);
  update();
}

// The bar at the top: name, what this is, state of the connection in words, and the two figures that everybody understands.

import { words } from "../wire/link.js";
import { make, write } from "./dom.js";

const WAVE = '<svg viewBox="0 0 28 20" aria-hidden="true" class="rill-wave"><path d="M2 6c4-5 8 5 12 0s8 5 12 0M2 14c4-5 8 5 12 0s8 5 12 0"/></svg>';

export function top(host, studio) {
  const dot = make("span", { className: "rill-dot", aria: { hidden: "true" } });
  const text = make("span", { className: "rill-words" });
  const status = make("div", { className: "rill-status", aria: { role: "status", live: "polite" } }, dot, text);
  const retry = make("button", { type: "button", className: "rill-link", hidden: true, on: { click: () => studio.connection.connect() } });
  retry.textContent = "Connect now";
  const title = make("h1", { className: "rill-name" });
  title.innerHTML = `${WAVE}<span>Rill</span>`;
  const line = make("p", { className: "rill-line", textContent: "Repaints your camera live, in the look that you describe." });
  const plain = make("div", { className: "rill-plainly", title: "New pictures per second, and the time from capture to display" });
  host.append(title, line, make("div", { className: "rill-statusline" }, status, retry), plain);

  const update = () => {
    const { tone, text: sentence, action } = words(studio.link, performance.now());
    status.dataset.tone = tone;
    status.dataset.state = studio.link.state;
    write(text, sentence);
    retry.hidden = action !== "retry";
  };
  studio.addEventListener("link", update);
  studio.addEventListener("source", update);
  studio.addEventListener("summary", ({ detail: { new_fps: fps, latency } }) => {
    write(plain, latency.p50 === null ? "" : `${Math.round(fps)} fps · ${Math.round(latency.p50)} ms delay`);
  });
  setInterval(update, 500);
  update();
}

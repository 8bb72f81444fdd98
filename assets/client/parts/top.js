// The bar at the top: name, the connection's state, two plain figures; and the one drawer, "Engine".

import { words } from "../wire/link.js";
import { icon, link, make, plain, write } from "./dom.js";

const WAVE = '<svg viewBox="0 0 28 20" aria-hidden="true" class="rill-wave"><path d="M2 6c4-5 8 5 12 0s8 5 12 0M2 14c4-5 8 5 12 0s8 5 12 0"/></svg>';

export function top(host, studio) {
  const dot = make("span", { className: "rill-dot", aria: { hidden: "true" } });
  const text = make("span", { className: "rill-words" });
  const status = make("div", { className: "rill-status", aria: { role: "status", live: "polite" } }, dot, text);
  const retry = link("Connect now", () => studio.connection.connect(), { hidden: true });
  const title = make("h1", { className: "rill-name" });
  title.innerHTML = `${WAVE}<span>Rill</span>`;
  const line = make("p", { className: "rill-line", textContent: "Repaints your camera live, in the look that you describe." });
  const figures = make("div", { className: "rill-plainly", title: "New pictures per second, and the time from capture to display" });
  host.append(title, line, make("div", { className: "rill-statusline" }, status, retry), figures);

  const update = () => {
    const { tone, text: sentence, action } = words(studio.link, performance.now());
    status.dataset.tone = tone;
    status.dataset.state = studio.link.state;
    write(text, sentence);
    retry.hidden = action !== "retry";
  };
  studio.on("link", update);
  studio.on("source", update);
  studio.on("summary", ({ new_fps: fps, latency }) => {
    write(figures, latency.p50 === null ? "" : `${Math.round(fps)} fps · ${Math.round(latency.p50)} ms delay`);
  });
  setInterval(update, 500);
  update();
}

export function drawer(host, studio) {
  const panel = () => document.getElementById("rill-engine");
  const isOpen = () => document.body.dataset.engine === "open";
  let wanted = false; // its parts may still load
  const details = plain("Details", () => show("rill-details"), { className: "rill-plain rill-details", title: "Charts: fps, delay, where the time goes" });
  const toggle = plain("", () => (wanted ? close() : show()), { className: "rill-plain rill-toggle", title: "Engine: model, size, speed, guidance, noise, comparison (d)", aria: { expanded: "false", controls: "rill-engine" } });
  toggle.append(icon("engine"), make("span", { textContent: "Engine" }));
  const head = make("div", { className: "rill-drawerhead rill-part" },
    make("h2", { textContent: "Engine" }), make("span", { className: "rill-engine" }),
    plain("Close", () => close()));
  host.append(details, toggle);
  panel().prepend(head);
  panel().setAttribute("role", "region");
  panel().setAttribute("aria-label", "Engine");
  panel().addEventListener("keydown", (event) => event.key === "Escape" && !document.fullscreenElement && close());

  /** `at`: the id of a section to begin with. */
  async function show(at = null) {
    wanted = true;
    if (!(await studio.loadDrawer())) wanted = false;
    if (!wanted) return;
    const before = isOpen();
    document.body.dataset.engine = "open";
    toggle.setAttribute("aria-expanded", "true");
    if (!before || !at) scroller().scrollTop = 0;
    if (at) document.getElementById(at).scrollIntoView({ block: "start" });
    head.lastChild.focus({ preventScroll: true });
  }
  function close() {
    wanted = false;
    delete document.body.dataset.engine;
    toggle.setAttribute("aria-expanded", "false");
    toggle.focus({ preventScroll: true });
  }
  function scroller() {
    return panel().scrollHeight > panel().clientHeight + 1 ? panel() : document.getElementById("rill-main");
  }
  studio.toggleEngine = () => toggle.click();
  studio.openEngine = show;
  studio.on("welcome", ({ spec, model }) => {
    const device = spec.device.toUpperCase();
    const name = (model.title ?? model.name).split(":")[0];
    write(head.children[1], `${name} · ${spec.width} × ${spec.height} · ${spec.backend} · ${device}`);
    head.children[1].title = `${model.title ?? model.name}: ${spec.model}, ${spec.dtype}, up to ${spec.max_steps} steps`;
  });
}

// The one drawer: "Engine" has everything beyond the first depth; "Details" opens it at its charts.

import { icon, make, write } from "./dom.js";

export function drawer(host, studio) {
  const panel = () => document.getElementById("rill-engine");
  const isOpen = () => document.body.dataset.engine === "open";
  const details = make("button", { type: "button", className: "rill-plain rill-details", textContent: "Details", title: "Charts: fps, delay, where the time goes", on: { click: () => show("rill-details") } });
  const toggle = make("button", { type: "button", className: "rill-plain rill-toggle", title: "Engine: model, size, speed, guidance, noise, comparison (d)", aria: { expanded: "false", controls: "rill-engine" }, on: { click: () => (isOpen() ? close() : show()) } }, icon("engine"), make("span", { textContent: "Engine" }));
  const head = make("div", { className: "rill-drawerhead rill-part" },
    make("h2", { textContent: "Engine" }), make("span", { className: "rill-engine" }),
    make("button", { type: "button", className: "rill-plain", textContent: "Close", on: { click: () => close() } }));
  host.append(details, toggle);
  panel().prepend(head);
  panel().setAttribute("role", "region");
  panel().setAttribute("aria-label", "Engine");
  panel().addEventListener("keydown", (event) => event.key === "Escape" && !document.fullscreenElement && close());

  /** Opens the drawer; `at` is the id of a section to begin with. */
  function show(at = null) {
    const before = isOpen();
    document.body.dataset.engine = "open";
    toggle.setAttribute("aria-expanded", "true");
    if (!before || !at) scroller().scrollTop = 0;
    if (at) document.getElementById(at).scrollIntoView({ block: "start" });
    head.lastChild.focus({ preventScroll: true });
  }
  function close() {
    delete document.body.dataset.engine;
    toggle.setAttribute("aria-expanded", "false");
    toggle.focus({ preventScroll: true });
  }
  /** What scrolls the drawer: itself where there is a column for it, else the page's one column. */
  function scroller() {
    return panel().scrollHeight > panel().clientHeight + 1 ? panel() : document.getElementById("rill-main");
  }
  studio.toggleEngine = () => toggle.click();
  studio.openEngine = show;
  studio.addEventListener("welcome", ({ detail: { spec, model } }) => {
    const device = spec.device === "cpu" ? "CPU" : spec.device.toUpperCase();
    const name = (model.title ?? model.name).split(":")[0];
    write(head.children[1], `${name} · ${spec.width} × ${spec.height} · ${spec.backend} · ${device}`);
    head.children[1].title = `${model.title ?? model.name}: ${spec.model}, ${spec.dtype}, up to ${spec.max_steps} steps`;
  });
}

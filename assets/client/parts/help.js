// The sheet that lists the keys of the page. It comes when it first opens.

import { make, plain } from "./dom.js";

/** `keys` as in shortcuts.js. Opens with `showModal()`. */
export function helpSheet(keys) {
  const rows = keys.map(([key, words]) => make("div", {}, make("dt", {}, make("kbd", { textContent: shown(key) })), make("dd", { textContent: words })));
  const close = plain("Close", () => sheet.close());
  const sheet = make("dialog", { className: "rill-sheet", aria: { label: "Keyboard shortcuts" } }, make("h2", { textContent: "Keyboard" }), make("dl", {}, ...rows), close);
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  document.querySelector(".gradio-container")?.append(sheet);
  return sheet;
}

const shown = (names) => ({ " ": "Space", "": "Alt ← →" })[names] ?? (names.length > 1 ? `${names[0]} – ${names.at(-1)}` : names);

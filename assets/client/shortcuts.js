// Keys for the buttons of the page, and the sheet that lists them.

import { make } from "./dom.js";

const TYPING = "input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable]";

/** `keys`: [key, words, action] for every shortcut; `?` opens the sheet. Returns what opens it. */
export function shortcuts(keys) {
  const sheet = helpSheet(keys);
  const table = new Map(keys.map(([key, , action]) => [key, action]));
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const { target } = event;
    if (target.closest?.(TYPING)) return;
    if (event.key === " " && target.closest?.("button, [type=checkbox], [type=radio], summary, a")) return; // their own key
    const action = table.get(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  });
  return () => sheet.showModal();
}

function helpSheet(keys) {
  const rows = keys.map(([key, words]) => make("div", {}, make("dt", {}, make("kbd", { textContent: key === " " ? "Space" : key })), make("dd", { textContent: words })));
  const close = make("button", { type: "button", className: "rill-plain", textContent: "Close", on: { click: () => sheet.close() } });
  const sheet = make("dialog", { className: "rill-sheet", aria: { label: "Keyboard shortcuts" } }, make("h2", { textContent: "Keyboard" }), make("dl", {}, ...rows), close);
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  document.querySelector(".gradio-container")?.append(sheet);
  return sheet;
}

// Keys for the buttons of the page, and the sheet that lists them.

import { make, plain } from "./dom.js";

const TYPING = "input:not([type=range], [type=checkbox], [type=radio], [type=button]), textarea, select, [role=textbox], [role=combobox]";
const OWN = "button, [type=checkbox], [type=radio], summary, a"; // what the space bar presses

/** Is an input method at work? */
export const composing = ({ isComposing, keyCode }) => isComposing || keyCode === 229;

/** Does it take keys as text? */
const typing = (target) => target instanceof Element && (target.isContentEditable || target.closest(TYPING) !== null);

/** `keys`: [keys, words, action], one character a key. Returns what opens the sheet. */
export function shortcuts(keys) {
  const sheet = helpSheet(keys);
  const table = new Map(keys.flatMap(([names, , action]) => [...names].map((key) => [key, action])));
  let pressed = null; // by a pointer: the space bar is not meant for it
  addEventListener("pointerdown", ({ target }) => (pressed = target.closest?.(`${OWN}, label`)), true);
  addEventListener("focusin", ({ target }) => (pressed = pressed?.contains(target) ? pressed : null), true);
  const spaceIsIts = (target) => target.closest?.(OWN) && !pressed?.contains(target);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || composing(event) || document.querySelector("dialog[open]")) return;
    const [target] = event.composedPath();
    const action = table.get(event.key);
    if (!action || typing(target) || (event.key === " " && spaceIsIts(target))) return;
    event.preventDefault();
    if (!event.repeat) action(event.key);
  });
  addEventListener("keyup", (event) => event.key === " " && pressed?.contains(event.target) && event.preventDefault(), true); // some browsers press then
  return () => sheet.showModal();
}

function helpSheet(keys) {
  const rows = keys.map(([key, words]) => make("div", {}, make("dt", {}, make("kbd", { textContent: shown(key) })), make("dd", { textContent: words })));
  const close = plain("Close", () => sheet.close());
  const sheet = make("dialog", { className: "rill-sheet", aria: { label: "Keyboard shortcuts" } }, make("h2", { textContent: "Keyboard" }), make("dl", {}, ...rows), close);
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  document.querySelector(".gradio-container")?.append(sheet);
  return sheet;
}

const shown = (names) => ({ " ": "Space", "": "Alt ← →" })[names] ?? (names.length > 1 ? `${names[0]} – ${names.at(-1)}` : names);

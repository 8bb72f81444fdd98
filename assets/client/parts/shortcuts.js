// Keys for the buttons of the page. help.js has the sheet that lists them.

const TYPING = "input:not([type=range], [type=checkbox], [type=radio], [type=button]), textarea, select, [role=textbox], [role=combobox]";
const OWN = "button, [type=checkbox], [type=radio], summary, a"; // what the space bar presses

/** Is an input method at work? */
export const composing = ({ isComposing, keyCode }) => isComposing || keyCode === 229;

/** Does it take keys as text? */
const typing = (target) => target instanceof Element && (target.isContentEditable || target.closest(TYPING) !== null);

/** `keys`: [keys, words, action], one character a key. */
export function shortcuts(keys) {
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
}

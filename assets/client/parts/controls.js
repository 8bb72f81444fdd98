// Gradio's controls, read by the DOM's `input` event: Gradio's own misses some of keys, clipboard, dictation, drops and fingers.

import { make } from "./dom.js";
import { entry } from "../pure/settings.js";

const TYPED = "textarea, input[type=text], input[type=number]";
const MOUNTED = 300; // ms
const SAID = 8000; // ms

export function controls(host, studio) {
  const { settings } = studio;
  const keys = new Map(host.dataset.keys.split(" ").map((key) => [`rill-${key.replaceAll(/[._]/g, "-")}`, key]));

  /** Calls `act(key, element, block, event)` before Gradio gets the event. */
  const on = (name, act) => addEventListener(name, (event) => {
    for (let block = event.target; block instanceof Element; block = block.parentElement) {
      if (keys.has(block.id)) return act(keys.get(block.id), event.target, block, event);
    }
  }, true);

  let watch = null;
  let restoring = false;
  const edited = (key, element, block, event) => {
    if (restoring) return;
    const typed = element.matches(TYPED);
    if (typed && element === document.activeElement) settings.hold(key, event.isComposing);
    if (event.isComposing) return clearInterval(watch); // a write would end the composition
    const { value, wrong = "" } = read(element, settings.fields[key]);
    remark(block, element, wrong || cut(element, settings.fields[key]), Boolean(wrong));
    if (wrong) {
      event.stopImmediatePropagation();
      settings.drop(key);
      return;
    }
    studio.input(key, value, typed);
    clearInterval(watch);
    const [caret, until] = [element.selectionStart ?? null, performance.now() + MOUNTED]; // a number's box has none
    watch = setInterval(() => {
      if (settings.shown[key] !== value || performance.now() > until) return clearInterval(watch);
      restoring = true;
      again(element, settings.fields[key], value, caret);
      restoring = false;
    }, 16);
  };
  on("input", edited);
  on("compositionstart", (key) => {
    clearInterval(watch);
    settings.hold(key, true);
  });
  on("compositionend", edited);
  on("focusout", (key, element, block) => {
    if (element.getAttribute("aria-invalid")) {
      element.value = settings.wanted()[key] ?? "";
      element.removeAttribute("aria-invalid");
    }
    if (block.said) block.timer = setTimeout(() => (block.said.hidden = true), SAID);
    settings.release(key);
  });
  on("keydown", (key, element, block, event) => {
    const next = element.type === "radio" ? neighbour(block, element, event.key) : null;
    if (!next && (event.key !== "Enter" || element.type !== "checkbox")) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // else Gradio's switch changes without an event
    (next ?? element).focus();
    (next ?? element).click();
  });
}

/** { value } of a control's element, or { wrong } with what is allowed. */
function read(element, field) {
  switch (element.type) {
    case "checkbox":
      return { value: element.checked };
    case "range":
    case "number":
      return entry(field, element.value, { low: bound(element.min), high: bound(element.max) });
    default:
      return { value: element.value };
  }
}

/** A newly mounted component of Gradio returns once to its first value: it gets what was entered again. */
function again(element, field, value, caret) {
  const holds = element.type === "radio" ? element.checked : read(element, field).value === value;
  if (holds || !element.isConnected || element.getAttribute("aria-invalid")) return;
  if (element.type === "checkbox") element.checked = value;
  else if (element.type === "radio") element.checked = true;
  else element.value = value;
  if (caret !== null) element.setSelectionRange(caret, caret);
  for (const name of ["input", "change"]) element.dispatchEvent(new Event(name, { bubbles: true }));
}

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** The choice that an arrow leads to: Gradio's are no group for the browser. */
function neighbour(block, element, key) {
  if (!(key in STEPS)) return null;
  const all = [...block.querySelectorAll("input[type=radio]")];
  return all.at((all.indexOf(element) + STEPS[key]) % all.length);
}

const bound = (text) => (text === "" ? undefined : Number(text));

function cut({ type, value }, field) {
  return type?.startsWith("text") && value.length >= field?.limit ? `This is full: ${field.limit} characters, what goes beyond is cut.` : "";
}

function remark(block, element, words, wrong) {
  if (wrong) element.setAttribute("aria-invalid", "true");
  else element.removeAttribute("aria-invalid");
  clearTimeout(block.timer);
  if (!words && !block.said) return;
  block.said ??= block.appendChild(make("p", { className: "rill-wrong", aria: { role: "status" } }));
  block.said.textContent = words;
  block.said.hidden = !words;
}

// Beside the prompt: earlier prompts, the model's words, a surprise. And timed travel to the second prompt.

import { iconButton, make, plain, press } from "./dom.js";
import { History, blendAt } from "../pure/storage.js";
import { composing } from "./shortcuts.js";
import { asked, chosen, known } from "../pure/vocabulary.js";

const RESTED = 3000; // ms after which a prompt counts as meant
const STEP = 100; // ms

export function ask(host, studio) {
  const history = new History(storage());
  const use = (prompt) => {
    if (prompt !== null) studio.settings.put("prompt", prompt);
  };
  const before = menu(host, "recent", "Earlier prompts (arrow up in the prompt)", "Earlier prompts", (close) =>
    history.items.length ? history.items.map((prompt) => make("button", {
      textContent: prompt,
      onclick: () => (use(prompt), close()),
    })) : [make("p", { textContent: "Prompts that you keep for three seconds are remembered here, in this browser." })]);
  let shown = [];
  const words = menu(host, "words", "Styles & words that the model knows", "Styles & words", () => {
    const groups = known(studio.welcome?.model ?? {});
    shown = groups.map((group) => wordGroup(group, groups, studio, use));
    return shown.length ? shown.map(({ row }) => row) : [make("p", { textContent: "This model lists no words." })];
  });
  studio.on("settings", () => shown.forEach(({ paint }) => paint()));
  const named = (button, text) => (button.append(text), button.classList.add("rill-plain"), button);
  host.append(named(words.button, "Styles & words"), named(iconButton("dice", "Shuffle look (r)", () => studio.surprise()), "Shuffle look"),
    before.button, iconButton("star", "Keep this look (k)", () => studio.keepLook()), before.list, words.list);

  studio.on("remember", (prompt) => history.add(prompt));
  let timer = null;
  studio.on("settings", ({ prompt }) => {
    if (prompt === history.last) return;
    history.last = prompt;
    clearTimeout(timer);
    timer = setTimeout(() => history.add(prompt), RESTED);
  });
  addEventListener("keydown", (event) => {
    if ((event.key !== "ArrowUp" && event.key !== "ArrowDown") || !event.target.closest?.("#rill-prompt")) return;
    if (composing(event) || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey || !atEdge(event.target, event.key)) return;
    event.preventDefault();
    use(event.key === "ArrowUp" ? history.older(studio.settings.values.prompt) : history.newer(studio.settings.values.prompt));
  });
}

/** In several rows the arrows move the caret, until it is at the first or last character. */
function atEdge(box, key) {
  const { lineHeight, paddingTop } = getComputedStyle(box);
  if (box.scrollHeight - 2 * parseFloat(paddingTop) < 1.8 * parseFloat(lineHeight)) return true;
  return box.selectionStart === (key === "ArrowUp" ? 0 : box.value.length);
}

/** A button that opens a list; `fill(close)` makes what it shows. */
function menu(host, name, tooltip, label, fill) {
  const list = make("div", { className: "rill-menu", hidden: true, aria: { role: "group", label } });
  const button = iconButton(name, tooltip, () => show(list.hidden));
  const show = (open) => {
    list.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    if (open) list.replaceChildren(...fill(() => show(false)));
  };
  button.setAttribute("aria-expanded", "false");
  addEventListener("pointerdown", ({ target }) => list.hidden || list.contains(target) || button.contains(target) || show(false));
  host.addEventListener("keydown", ({ key }) => key === "Escape" && !list.hidden && show(false));
  return { button, list };
}

function wordGroup({ title, kind, words }, groups, studio, use) {
  const prompt = () => studio.settings.values.prompt ?? "";
  const buttons = words.map((word) => make("button", {
    className: "rill-chip",
    textContent: word,
    onclick: () => use(chosen(prompt(), word, kind, groups)),
  }));
  const paint = () => buttons.forEach((button, index) => press(button, asked(prompt(), words[index], kind)));
  paint();
  return { paint, row: make("div", { className: "rill-known", aria: { role: "group", label: title } }, make("p", { textContent: title }), ...buttons) };
}

export function travel(host, studio) {
  const seconds = make("input", { type: "number", min: 1, max: 120, value: 5, className: "rill-number", aria: { label: "Crossfade time in seconds" } });
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
  };
  const go = (to) => {
    stop();
    const from = studio.settings.values.blend ?? 0;
    const began = performance.now();
    const length = Math.min(120, Math.max(1, Number(seconds.value) || 5));
    seconds.value = length; // what is taken
    timer = setInterval(() => {
      const blend = blendAt(from, to, length, (performance.now() - began) / 1000);
      studio.settings.put("blend", blend);
      if (blend === to) stop();
    }, STEP);
  };
  const button = (text, to) => plain(text, () => go(to));
  host.append(button("Fade to A", 0), button("Fade to B", 1), make("label", { className: "rill-check" }, "Crossfade time", seconds, "s"));
  document.addEventListener("input", ({ target }) => target.closest?.("#rill-blend") && stop(), true); // the hand is stronger
}

function storage() {
  try {
    localStorage.getItem("rill.prompts");
    return localStorage;
  } catch {
    return null; // blocked: remembered until the page goes
  }
}

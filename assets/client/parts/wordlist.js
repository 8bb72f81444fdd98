// The lists beside the prompt: earlier prompts, and the words that the model knows. It comes when one of them first opens.

import { make, press } from "./dom.js";
import { asked, chosen, known } from "../pure/vocabulary.js";

/** Buttons for earlier prompts; `use(prompt)` takes one. */
export function earlier(items, use) {
  if (!items.length) return [make("p", { textContent: "Prompts that you keep for three seconds are remembered here, in this browser." })];
  return items.map((prompt) => make("button", { textContent: prompt, onclick: () => use(prompt) }));
}

/** Groups of buttons for known words, pressed where the prompt has them. */
export function words(studio, use) {
  const groups = known(studio.welcome?.model ?? {});
  if (!groups.length) return [make("p", { textContent: "This model lists no words." })];
  return groups.map((group) => wordGroup(group, groups, studio, use));
}

function wordGroup({ title, kind, words }, groups, studio, use) {
  const prompt = () => studio.settings.wanted().prompt ?? "";
  const buttons = words.map((word) => make("button", {
    className: "rill-chip",
    textContent: word,
    onclick: () => use(chosen(prompt(), word, kind, groups)),
  }));
  const row = make("div", { className: "rill-known", aria: { role: "group", label: title } }, make("p", { textContent: title }), ...buttons);
  const paint = () => buttons.forEach((button, index) => press(button, asked(prompt(), words[index], kind)));
  const follow = () => (row.isConnected ? paint() : studio.removeEventListener("settings", follow));
  studio.addEventListener("settings", follow);
  paint();
  return row;
}

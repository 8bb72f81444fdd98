// Under the prompt: what the model took words for, which it does not know, and where a prompt was cut.

import { make } from "./dom.js";
import { replaced, remarks } from "../pure/vocabulary.js";

export function understood(host, studio) {
  host.setAttribute("role", "status");
  host.hidden = true;
  let last = "";
  studio.addEventListener("words", ({ detail }) => {
    const lines = remarks(detail);
    const text = JSON.stringify(lines);
    if (text === last) return;
    last = text;
    host.hidden = !lines.length;
    host.replaceChildren(...lines.map(({ kind, words, setting, from, to }) => make("p", { dataset: { kind } }, make("span", { textContent: words }), to ? use(setting, from, to) : null)));
  });
  const use = (setting, from, to) => make("button", {
    type: "button",
    className: "rill-chip",
    textContent: to,
    title: `Write “${to}” instead`,
    on: { click: () => studio.settings.put(setting, replaced(studio.settings.wanted()[setting] ?? "", from, to)) },
  });
}

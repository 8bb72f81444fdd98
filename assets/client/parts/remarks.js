// Under the prompt: what the model made of the words, and that a second prompt is mixed in.

import { link, make, write } from "./dom.js";
import { replaced, remarks } from "../pure/vocabulary.js";

export function mixture(host, studio) {
  const words = make("span");
  host.append(words, link("Edit", edit), link("Take it out", () => studio.settings.put("blend", 0)));
  host.setAttribute("role", "status");
  host.hidden = true;
  studio.on("settings", ({ prompt_b: second = "", blend = 0 }) => {
    const alone = second !== "" && blend === 1;
    host.hidden = second === "" || blend === 0;
    document.querySelector("#rill-prompt")?.classList.toggle("rill-unused", alone);
    if (host.hidden) return;
    write(words, alone ? `Only prompt B is in the picture: “${second}”.` : `Prompt B is mixed in at ${Math.round(blend * 100)}%: “${second}”.`);
  });
}

function edit() {
  if (document.fullscreenElement) document.exitFullscreen();
  document.querySelector("#rill-prompt-b :is(textarea, input)")?.focus();
}

export function understood(host, studio) {
  host.setAttribute("role", "status");
  host.hidden = true;
  let last = "";
  studio.on("words", (detail) => {
    const lines = remarks(detail);
    const text = JSON.stringify(lines);
    if (text === last) return;
    last = text;
    host.hidden = !lines.length;
    host.replaceChildren(...lines.map(({ kind, words, setting, from, to }) => make("p", { dataset: { kind } }, make("span", { textContent: words }), to ? use(setting, from, to) : null)));
  });
  const use = (setting, from, to) => make("button", {
    className: "rill-chip",
    textContent: to,
    title: `Write “${to}” instead`,
    onclick: () => studio.settings.put(setting, replaced(studio.settings.wanted()[setting] ?? "", from, to)),
  });
}

// Under the prompt: what the model made of the words, and that a second prompt is mixed in.

import { link, make, write } from "./dom.js";
import { replaced, remarks } from "../pure/vocabulary.js";

export function mixture(host, studio) {
  const words = make("span");
  host.append(words, link("Edit", edit), link("Take it out", () => studio.settings.put("blend", 0)));
  host.setAttribute("role", "status");
  host.hidden = true;
  const paint = () => {
    const { prompt_b: second = "", blend = 0 } = studio.settings.values;
    const alone = second !== "" && blend === 1;
    host.hidden = second === "" || blend === 0 || studio.covered;
    document.querySelector("#rill-prompt")?.classList.toggle("rill-unused", alone);
    if (host.hidden) return;
    write(words, alone ? `Only prompt B is in the picture: “${second}”.` : `Prompt B is mixed in at ${Math.round(blend * 100)}%: “${second}”.`);
  };
  for (const name of ["settings", "covered"]) studio.on(name, paint);
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
    host.tabIndex = -1;
    host.replaceChildren(...lines.map(({ kind, words, swaps }) => make("p", { dataset: { kind } }, make("span", { textContent: words }), ...swaps.map((swap) => use(swap, swaps.length > 1)))));
    if (host.scrollHeight > host.clientHeight) host.tabIndex = 0; // the keyboard scrolls it
  });
  const use = ({ setting, from, to }, several) => make("button", {
    className: "rill-chip",
    textContent: several ? `${from}: ${to}` : to,
    title: `Write “${to}” instead of “${from}”`,
    onclick: () => studio.settings.put(setting, replaced(studio.settings.wanted()[setting] ?? "", from, to)),
  });
}

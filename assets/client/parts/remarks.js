// Remarks under the prompt. They come with the first one.

import { make } from "./dom.js";
import { remarks, replaced } from "../pure/remarks.js";

/** Shows what there is to say in `host`, hidden if there is nothing. `detail`: the lists of the server. */
export function show(host, studio, detail) {
  const lines = remarks(detail);
  const text = JSON.stringify(lines);
  if (text === (host.dataset.lines ?? "[]")) return;
  host.dataset.lines = text;
  host.hidden = !lines.length;
  host.tabIndex = -1;
  const chip = (swap, several) => use(studio, swap, several);
  host.replaceChildren(...lines.map(({ kind, words, swaps }) => make("p", { dataset: { kind } }, make("span", { textContent: words }), ...swaps.map((swap) => chip(swap, swaps.length > 1)))));
  if (host.scrollHeight > host.clientHeight) host.tabIndex = 0; // the keyboard scrolls it
}

/** A button that writes the nearest known words instead. */
function use(studio, { setting, from, to }, several) {
  return make("button", {
    className: "rill-chip",
    textContent: several ? `${from}: ${to}` : to,
    title: `Write “${to}” instead of “${from}”`,
    onclick: () => studio.settings.put(setting, replaced(studio.settings.wanted()[setting] ?? "", from, to)),
  });
}

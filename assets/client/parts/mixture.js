// Under the prompt: that a second one is mixed in, wherever it was written, and what becomes of the first.

import { make, write } from "./dom.js";

export function mixture(host, studio) {
  const words = make("span");
  const link = (textContent, click) => make("button", { type: "button", className: "rill-link", textContent, on: { click } });
  host.append(words, link("Edit", edit), link("Take it out", () => studio.settings.put("blend", 0)));
  host.setAttribute("role", "status");
  host.hidden = true;
  studio.addEventListener("settings", ({ detail: { prompt_b: second = "", blend = 0 } }) => {
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

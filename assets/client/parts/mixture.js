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
    write(words, alone ? `Only the second prompt is in the picture: “${second}”.` : `The second prompt is mixed in at ${Math.round(blend * 100)}%: “${second}”.`);
  });
}

/** Opens the second prompt's fold and goes there. */
function edit() {
  const fold = document.querySelector("#rill-second");
  const box = () => fold?.querySelector("#rill-prompt-b textarea, #rill-prompt-b input");
  if (!box()?.offsetParent) fold?.querySelector("button")?.click();
  const go = (left) => (box()?.offsetParent ? box().focus() : left > 0 && setTimeout(() => go(left - 1), 50)); // the fold opens in its own time
  go(20);
}

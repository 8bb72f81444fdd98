// Example prompts of the model as chips under the prompt.

import { make } from "./dom.js";

const MOST = 8;

export function chips(host, studio) {
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", "Example prompts");
  const paint = () => {
    const current = (studio.settings.values.prompt ?? "").trim();
    for (const chip of host.children) chip.setAttribute("aria-pressed", String(chip.textContent === current));
  };
  studio.addEventListener("welcome", ({ detail: { model } }) => {
    const examples = (model.prompts ?? []).slice(0, MOST);
    host.replaceChildren(...examples.map((prompt) => make("button", {
      type: "button",
      className: "rill-chip",
      textContent: prompt,
      on: { click: () => studio.settings.put("prompt", prompt) },
    })));
    paint();
  });
  studio.addEventListener("settings", paint);
}

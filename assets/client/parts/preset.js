// A choice of the model's presets. It sets their settings, whose controls are below it.

import { make, options, write } from "./dom.js";
import { presetOf, presetWords } from "../pure/preset.js";
import { put } from "./speed.js";

export function preset(host, studio) {
  const select = make("select", { className: "rill-select", aria: { label: "Preset" }, onchange: choose });
  const words = make("p", { className: "rill-remark", aria: { live: "polite" } });
  const line = make("div", { className: "rill-sourceline", hidden: true }, make("label", { className: "rill-check" }, "Preset ", select));
  host.append(line, words);
  let listed = "";

  function choose() {
    const chosen = presets().find(({ name }) => name === select.value);
    if (chosen) put(studio, chosen.settings);
    else show();
  }

  const presets = () => studio.welcome?.model.presets ?? [];

  function show() {
    const found = presets();
    line.hidden = !found.length;
    const names = JSON.stringify(found.map(({ name }) => name));
    if (names !== listed) {
      listed = names;
      select.replaceChildren(...options([["", "own settings"], ...found.map(({ name }) => [name, name])]));
    }
    const standing = presetOf(found, studio.settings.values);
    if (document.activeElement !== select || standing) select.value = standing;
    const chosen = found.find(({ name }) => name === standing);
    write(words, chosen ? presetWords(chosen) : "");
  }

  studio.on("summary", show);
}

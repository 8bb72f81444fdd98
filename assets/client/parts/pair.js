// The shown and the full quality picture of the same frame, to be wiped against each other.

import { make } from "./dom.js";
import { messages } from "../wire/protocol.js";
import { decode } from "../flow/view.js";

export function pair(studio) {
  const [shown, reference] = [["rill-shown", "Shown picture"], ["rill-reference", "Full quality picture"]].map(([className, label]) => make("canvas", { className, aria: { role: "img", label } }));
  const element = make("div", { className: "rill-pair" }, shown, reference);
  let waiting = null; // its answer has not come yet
  let probed = null; // did the probe run before?

  async function paint(canvas, { picture, mime }) {
    const bitmap = await decode(new Blob([picture], { type: mime }));
    if (!bitmap) return;
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
  const ask = () => studio.connection.send(messages.references(probed !== null));
  studio.on("reference", (detail) => (waiting = detail));
  studio.on("answer", (answer) => {
    if (answer.id !== waiting?.id) return;
    paint(reference, waiting);
    paint(shown, answer);
    element.dataset.ready = "true";
    waiting = null;
  });
  studio.on("link", () => probed !== null && studio.link.state === "live" && ask()); // a new connection begins without
  studio.on("view", (view) => {
    if ((view === "reference") === (probed !== null)) return;
    if (view === "reference") {
      probed = studio.settings.values["probe.enabled"];
      studio.settings.put("probe.enabled", true);
    } else {
      studio.settings.put("probe.enabled", probed);
      probed = null;
      delete element.dataset.ready;
    }
    ask();
  });
  return element;
}

// What was shown and the unaccelerated picture of the same frame, on two canvases over the output, to be wiped against each other.

import { make } from "./dom.js";
import { messages } from "../wire/protocol.js";
import { decode } from "../flow/view.js";

export function pair(studio) {
  const [shown, reference] = ["shown", "reference"].map((side) => make("canvas", { className: `rill-${side}`, aria: { role: "img", label: side === "shown" ? "Shown picture" : "Full quality picture" } }));
  const element = make("div", { className: "rill-pair" }, shown, reference);
  let waiting = null; // the reference whose answer has not come yet
  let probed = null; // whether the probe ran before it was needed here

  async function paint(canvas, { picture, mime }) {
    const bitmap = await decode(new Blob([picture], { type: mime }));
    if (!bitmap) return;
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
  const ask = () => studio.connection.send(messages.references(probed !== null));
  studio.addEventListener("reference", ({ detail }) => (waiting = detail));
  studio.addEventListener("answer", ({ detail: answer }) => {
    if (answer.id !== waiting?.id) return;
    paint(reference, waiting);
    paint(shown, answer);
    element.dataset.ready = "true";
    waiting = null;
  });
  studio.addEventListener("link", () => probed !== null && studio.link.state === "live" && ask()); // a new connection begins without
  studio.addEventListener("view", ({ detail: view }) => {
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

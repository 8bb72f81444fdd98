// The shown and the full quality picture of the same frame, to be wiped against each other.

import { make } from "./dom.js";
import { messages } from "../wire/protocol.js";
import { decode } from "../flow/view.js";
import { Shared } from "../pure/shared.js";

export function pair(studio) {
  const [shown, reference] = [["rill-shown", "Shown picture"], ["rill-reference", "Full quality picture"]].map(([className, label]) => make("canvas", { className, aria: { role: "img", label } }));
  const element = make("div", { className: "rill-pair" }, shown, reference);
  let waiting = null; // its answer has not come yet
  let wanted = false;
  studio.probe ??= new Shared(studio.settings);

  async function paint(canvas, { picture, mime }) {
    const bitmap = await decode(new Blob([picture], { type: mime }));
    if (!bitmap) return;
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
  }
  const ask = () => studio.connection.send(messages.references(wanted));
  studio.on("reference", (detail) => (waiting = detail));
  studio.on("answer", (answer) => {
    if (answer.id !== waiting?.id) return;
    paint(reference, waiting);
    paint(shown, answer);
    element.dataset.ready = "true";
    waiting = null;
  });
  studio.on("link", () => wanted && studio.link.state === "live" && ask()); // a new connection begins without
  studio.on("view", (view) => {
    if ((view === "reference") === wanted) return;
    wanted = view === "reference";
    if (wanted) studio.probe.take("wipe", { "probe.enabled": true });
    else {
      studio.probe.give("wipe");
      delete element.dataset.ready;
    }
    ask();
  });
  return element;
}

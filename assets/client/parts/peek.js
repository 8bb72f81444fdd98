// Before and after: a drag across the picture shows the input at its left. It comes after the first picture.

import { make } from "./dom.js";
import { kept, keep } from "../pure/storage.js";

const SLOP = 8; // pixels
const KEY = "rill.peeked";

/** `show(share)` shows the input left of that share of the width; null ends it. Returns the hint. */
export function peek(frame, picture, studio, show) {
  const hint = make("p", { className: "rill-hint", textContent: "Drag across the picture: before and after", hidden: Boolean(kept(KEY)) });
  let from = null; // { x, y, on } of a press
  const place = ({ clientX }) => {
    const { left, width } = picture.getBoundingClientRect();
    return Math.min(1, Math.max(0, (clientX - left) / width));
  };
  const free = ({ target, isPrimary, button }) => isPrimary && button === 0 && !frame.dataset.painting && studio.source?.element
    && frame.dataset.view !== "beside" && !frame.matches("[data-view=wipe], [data-view=reference]") && !target.closest("button, input, a");
  frame.addEventListener("pointerdown", (event) => (from = free(event) ? { x: event.clientX, y: event.clientY, on: false } : null));
  frame.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [across, along] = [Math.abs(event.clientX - from.x), Math.abs(event.clientY - from.y)];
    if (!from.on && (across < SLOP || across < along)) return;
    if (!from.on) frame.setPointerCapture(event.pointerId);
    from.on = true;
    show(place(event));
  });
  const end = () => {
    if (from?.on) {
      show(null);
      hint.hidden = true;
      keep(KEY, true);
    }
    from = null;
  };
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) frame.addEventListener(name, end);
  return hint;
}

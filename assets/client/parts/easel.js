// Painting on the input: pointer strokes on layers, and the bar of tools. It comes when somebody paints.

import { Layer, Masking } from "../flow/layer.js";
import { paintsRegion } from "../pure/regions.js";
import { icon, iconButton, make, plain, press, write } from "./dom.js";

const COLOURS = ["#111418", "#ffffff", "#d7332b", "#f08a24", "#f6d13a", "#3fa34d", "#2f7fd6", "#7a4fc0", "#e58fb2", "#8a5a34"];
const MASK = "#12b8ac";
const NAMES = ["black", "white", "red", "orange", "yellow", "green", "blue", "violet", "pink", "brown"];

/** Lets pointers paint on `surface` while `brush()` gives one. */
function paintable(surface, layer, brush) {
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = surface.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  };
  const pressure = ({ pointerType, pressure: force }) => (pointerType === "pen" && force > 0 ? 0.3 + 1.2 * force : 1);
  surface.addEventListener("pointerdown", (event) => {
    const how = brush();
    if (!how || event.button > 0) return;
    event.preventDefault();
    surface.setPointerCapture(event.pointerId);
    layer.begin(...place(event), { ...how, pressure: pressure(event) });
  });
  surface.addEventListener("pointermove", (event) => {
    if (!layer.stroke) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) layer.move(...place(part), pressure(part));
  });
  for (const over of ["pointerup", "pointercancel"]) surface.addEventListener(over, () => layer.end());
}

/** Layers in the `inset`, the bar in `box`. `turn(what)` shows the tools of "colour" or "mask"; `close()` ends painting. */
export function easel(studio, { frame, inset, box, close }) {
  const layers = { colour: new Layer(), mask: new Layer() };
  let layer = layers.colour;
  const brush = { colour: COLOURS[2], size: 0.03, erase: false };
  const swatches = COLOURS.map((colour, index) => make("button", {
    className: "rill-swatch",
    title: NAMES[index],
    style: `--colour: ${colour}`,
    dataset: { colour },
    aria: { label: NAMES[index] },
    onclick: () => choose(colour),
  }));
  const own = make("input", { type: "color", value: "#d7332b", title: "Another colour", aria: { label: "Another colour" }, oninput: () => choose(own.value) });
  const eraser = iconButton("eraser", "Eraser (e)", () => choose(brush.colour, !brush.erase));
  const size = make("input", { type: "range", min: 0.5, max: 20, step: 0.5, value: 3, oninput: () => (brush.size = size.value / 100) });
  const undo = iconButton("undo", "Undo (z)", () => layer.undo());
  const clear = iconButton("bin", "Clear the painting", () => layer.clear());
  const paper = make("input", { type: "color", value: "#f4f1ea", oninput: () => studio.source?.fill?.(paper.value) });
  const sheet = make("label", { className: "rill-check" }, paper, "Paper");
  const done = plain("Done", close);
  const kinds = [["colour", "Colour"], ["mask", "Affected area"]].map(([kind, textContent]) => plain(textContent, () => studio.say("paint", kind), { dataset: { kind } }));
  const remark = make("span", { className: "rill-remark" });
  const swatchbox = make("div", { className: "rill-swatches" }, ...swatches, own);
  const bar = make("div", { className: "rill-easel", hidden: true, aria: { role: "toolbar", label: "Painting" } },
    make("div", { className: "rill-kindline", aria: { role: "group", label: "What is painted" } }, ...kinds), swatchbox, remark,
    make("label", { className: "rill-check rill-size" }, icon("paint"), make("span", { className: "rill-spoken", textContent: "Brush size" }), size),
    eraser, undo, clear, sheet, done);

  function choose(colour, erase = false) {
    Object.assign(brush, { colour, erase });
    for (const swatch of swatches) press(swatch, !erase && swatch.dataset.colour === colour);
    press(eraser, erase);
  }
  function turn(what) {
    layer = layers[what];
    swatchbox.hidden = what === "mask";
    remark.hidden = !swatchbox.hidden;
    sheet.hidden = what === "mask" || studio.source?.kind !== "paint";
    for (const button of kinds) press(button, button.dataset.kind === what);
    choose(brush.colour);
    const region = paintsRegion(studio.settings.values.prompt);
    write(remark, region ? "What you paint is drawn by the prompt after “painted:”." : "Only what you paint is changed.");
    if (what === "mask" && !region && studio.settings.values["strength_map.mode"] !== "mask") studio.settings.put("strength_map.mode", "mask");
  }
  for (const [kind, each] of Object.entries(layers)) {
    each.canvas.className = `rill-layer rill-layer-${kind}`;
    paintable(each.canvas, each, () => frame.dataset.painting === kind && { ...brush, ...(kind === "mask" && { colour: MASK }) });
  }
  const resize = ({ width, height }) => Object.values(layers).forEach((each) => each.resize(width, height));
  if (studio.welcome) resize(studio.welcome.spec);
  studio.on("welcome", ({ spec }) => resize(spec));
  studio.pump.encoder.layer = layers.colour;
  new Masking(studio, layers.mask);
  inset.append(layers.colour.canvas, layers.mask.canvas);
  box.append(bar);
  return { bar, turn, eraser, undo, layers };
}

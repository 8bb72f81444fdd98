// The input: what the pictures come from, and the few choices that belong to it.

import { cameras } from "./sources.js";
import { icon, make } from "./dom.js";

const KINDS = [
  ["camera", "Camera"],
  ["screen", "Screen"],
  ["sample", "Sample"],
  ["clip", "Clip"],
  ["picture", "Picture"],
  ["prompt", "Prompt only"],
];
const ACCEPT = { clip: "video/*", picture: "image/*" };

export function source(host, studio) {
  const files = make("input", { type: "file", hidden: true, aria: { label: "File to use as input" } });
  const pick = (kind) => {
    if (!(kind in ACCEPT)) return studio.choose(kind);
    files.accept = ACCEPT[kind];
    files.onchange = () => files.files[0] && studio.choose(kind, { file: files.files[0] });
    files.value = "";
    return files.click();
  };
  const buttons = KINDS.map(([kind, label]) => make("button", {
    type: "button",
    className: "rill-kind",
    dataset: { kind },
    aria: { pressed: "false" },
    on: { click: () => pick(kind) },
  }, icon(kind), make("span", { textContent: label })));
  const device = make("select", { className: "rill-select", aria: { label: "Camera" }, on: { change: () => studio.choose("camera", { deviceId: device.value }) } });
  const mirrored = make("input", { type: "checkbox", checked: true, on: { change: () => studio.setMirror(mirrored.checked) } });
  const camera = make("div", { className: "rill-sourceline", hidden: true }, device, make("label", { className: "rill-check" }, mirrored, "Mirror"));
  const file = make("div", { className: "rill-sourceline rill-file", hidden: true });
  host.append(make("div", { className: "rill-kinds", aria: { role: "group", label: "Input" } }, ...buttons), camera, file, files);

  studio.addEventListener("source", () => {
    const kind = studio.source?.kind ?? null;
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    host.dataset.busy = String(studio.opening > 0);
    camera.hidden = kind !== "camera";
    if (kind === "camera") mirrored.checked = studio.pump.mirror;
    file.hidden = kind !== "clip" && kind !== "picture";
    file.textContent = file.hidden ? "" : studio.source.label;
    if (kind === "camera") listCameras(device, studio.source.deviceId);
  });
}

async function listCameras(select, current) {
  const found = await cameras();
  select.replaceChildren(...found.map(({ deviceId, label }) => make("option", { value: deviceId, textContent: label, selected: deviceId === current })));
  select.disabled = found.length < 2;
}

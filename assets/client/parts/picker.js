// The input and the few choices that belong to it.

import { cameras, onCameraChange } from "../flow/sources.js";
import { fileInput, icon, iconButton, make, options, press, write } from "./dom.js";

const KINDS = [
  ["camera", "Use my camera", ""],
  ["screen", "Screen", "A window, a tab or the whole screen"],
  ["sample", "Sample", "The sample clip"],
  ["clip", "Clip", "A video file"],
  ["picture", "Picture", "A picture file"],
  ["paint", "Paint", "A sheet of paper to paint on"],
  ["prompt", "Words", "The prompt alone, without an input"],
];
const ACCEPT = { clip: "video/*", picture: "image/*" };

export function source(host, studio) {
  const files = fileInput("File to use as input", (file) => studio.choose("clip", { file })); // or a picture: its content says
  const pick = (kind) => {
    if (!(kind in ACCEPT)) return studio.choose(kind);
    files.accept = ACCEPT[kind];
    return files.click();
  };
  const buttons = KINDS.map(([kind, label, title]) => make("button", {
    className: "rill-kind",
    title,
    dataset: { kind },
    aria: { pressed: "false" },
    onclick: () => pick(kind),
  }, icon(kind), make("span", { textContent: label })));
  const lines = [cameraLine(studio), fileLine(studio), clipLine(studio)];
  host.append(make("div", { className: "rill-kinds", aria: { role: "group", label: "Input" } }, ...buttons), ...lines.map(({ line }) => line), files);

  studio.on("source", () => {
    const kind = studio.source?.kind ?? null;
    for (const button of buttons) press(button, button.dataset.kind === kind);
    write(buttons[0].lastChild, kind === "camera" ? "Camera" : KINDS[0][1]);
    host.dataset.busy = String(studio.opening > 0);
    host.dataset.kind = kind ?? "";
    for (const { update } of lines) update(studio.source);
  });
}

function cameraLine(studio) {
  const device = make("select", { className: "rill-select", aria: { label: "Camera" }, onchange: () => studio.choose("camera", { deviceId: device.value }) });
  const mirrored = make("input", { type: "checkbox", checked: true, onchange: () => studio.setMirror(mirrored.checked) });
  const turn = iconButton("turn", "Front or back camera", () => studio.choose("camera", { facing: studio.source?.away ? "user" : "environment" }));
  const line = make("div", { className: "rill-sourceline", hidden: true }, device, turn, make("label", { className: "rill-check" }, mirrored, "Mirror"));
  const list = async () => {
    if (studio.source?.kind !== "camera") return;
    const found = await cameras();
    device.replaceChildren(...options(found.map(({ deviceId, label }) => [deviceId, label])));
    device.value = studio.source?.deviceId; // of the present one
    device.disabled = found.length < 2;
    turn.hidden = found.length < 2 || !matchMedia("(pointer: coarse)").matches;
  };
  onCameraChange(list);
  const update = (now) => {
    line.hidden = now?.kind !== "camera";
    if (line.hidden) return;
    mirrored.checked = studio.pump.mirror;
    list();
  };
  return { line, update };
}

function fileLine() {
  const line = make("div", { className: "rill-sourceline rill-file", hidden: true });
  const update = (now) => {
    line.hidden = now?.kind !== "clip" && now?.kind !== "picture";
    write(line, line.hidden ? "" : now.label);
  };
  return { line, update };
}

function clipLine() {
  let video = null;
  const hold = iconButton("pause", "Hold the clip", () => (video.paused ? video.play() : video.pause()));
  const seek = make("input", { type: "range", min: 0, max: 1, step: "any", value: 0, aria: { label: "Position in the clip" } });
  seek.addEventListener("input", () => (video.currentTime = seek.value));
  const time = make("span", { className: "rill-time" });
  const loop = iconButton("loop", "Play in a loop", () => {
    video.loop = !video.loop;
    if (video.loop && video.ended) video.play();
    paint();
  });
  const line = make("div", { className: "rill-sourceline rill-clip", hidden: true }, hold, seek, time, loop);
  function paint() {
    if (!video) return;
    hold.paint(video.paused ? "play" : "pause", video.paused ? "Play the clip" : "Hold the clip");
    press(loop, video.loop);
    seek.max = video.duration;
    if (document.activeElement !== seek || !video.paused) seek.value = video.currentTime;
    write(time, `${clock(video.currentTime)} / ${clock(video.duration)}`);
  }
  const update = (now) => {
    const next = now?.seekable ? now.element : null;
    for (const name of ["timeupdate", "pause", "playing"]) {
      video?.removeEventListener(name, paint);
      next?.addEventListener(name, paint);
    }
    video = next;
    line.hidden = video === null;
    paint();
  };
  return { line, update };
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// The output, large, with its few tools; the input as an inset, beside it or wiped over it; what is wrong, said on top of it.

import { words } from "../wire/link.js";
import { iconButton, make, write } from "./dom.js";
import { easel, paintable } from "./easel.js";
import { pair } from "./pair.js";
import { shortcuts } from "./shortcuts.js";

const BRIEF = 8000; // ms that a passing remark stays
const VIEWS = {
  inset: "The input as an inset (i)",
  beside: "Input and output side by side (i)",
  alone: "The output alone (i)",
};

const WIPES = {
  inset: "Wipe between input and output (w)",
  wipe: "Wipe between the unaccelerated picture and the one shown (w)",
  reference: "End the wipe (w)",
};

export function stage(host, studio, trigger) {
  const canvas = make("canvas", { className: "rill-canvas", id: "rill-output", width: 2, height: 2, aria: { role: "img", label: "Transformed picture" } });
  const picture = make("div", { className: "rill-picture" }, canvas, pair(studio));
  const holder = make("div", { className: "rill-holder" });
  const { layer, mask } = studio;
  layer.canvas.className = "rill-layer rill-layer-colour";
  mask.canvas.className = "rill-layer rill-layer-mask";
  const inset = make("div", { className: "rill-inset", aria: { label: "Input", role: "group" } }, holder, layer.canvas, mask.canvas);
  const veil = make("div", { className: "rill-veil" });
  const notice = make("div", { className: "rill-notice", hidden: true, aria: { role: "alert" } });
  const recording = make("div", { className: "rill-recording", hidden: true, aria: { hidden: "true" } });
  const frame = make("div", { className: "rill-frame", dataset: { view: "inset" } }, picture, inset, wiper(), veil, recording, notice);
  const { bar, brush, turn, keys } = easel(studio, () => setPainting(null));
  const box = make("div", { className: "rill-stagebox" }, frame, bar);
  host.append(box, make("div", { id: "rill-nursery", aria: { hidden: "true" } }));
  frame.after(tools());
  paintable(layer.canvas, layer, () => (frame.dataset.painting === "colour" ? brush : null));
  paintable(mask.canvas, mask, () => (frame.dataset.painting === "mask" ? { ...brush, colour: "#12b8ac" } : null));
  studio.addEventListener("paint", ({ detail }) => setPainting(detail));

  let before = "inset"; // the view to go back to after painting
  let paper = null; // the input of the last change: a new canvas shows its tools once
  studio.bridge = () => trigger("change");
  studio.addEventListener("source", () => {
    showInput(inset, holder, studio);
    if (studio.source?.kind === "paint" && !studio.opening && studio.source !== paper) setPainting("colour");
    paper = studio.source;
  });
  studio.addEventListener("recording", ({ detail: { active = false, seconds = 0 } }) => {
    recording.hidden = !active;
    write(recording, `Recording ${seconds.toFixed(0)} s`);
  });
  studio.addEventListener("notice", ({ detail: { text, brief, about } }) => {
    if (!text && about !== notice.about) return; // what it took back is not what is said now
    notice.about = about;
    showNotice(notice, text);
    clearTimeout(notice.timer);
    if (brief) notice.timer = setTimeout(() => showNotice(notice, ""), BRIEF);
  });
  studio.addEventListener("welcome", ({ detail: { spec } }) => {
    frame.style.setProperty("--shape", `${spec.width} / ${spec.height}`);
    frame.style.setProperty("--ratio", spec.width / spec.height);
    for (const each of [layer, mask]) each.resize(spec.width, spec.height);
  });
  const paint = () => {
    const { link } = studio;
    const calm = link.state === "live" && link.seenPicture;
    veil.hidden = calm && !link.paused;
    frame.dataset.calm = String(calm);
    write(veil, calm ? "Paused" : words(link, performance.now()).text);
  };
  studio.addEventListener("link", paint);
  studio.addEventListener("summary", paint); // keeps the seconds of a countdown true
  acceptDrops(frame, studio);
  studio.start(canvas);

  function setView(view) {
    if (frame.dataset.painting && view !== "beside") setPainting(null);
    frame.dataset.view = view;
    studio.say("view", view);
  }

  /** Shows the tools for "colour" or "mask"; null puts them away. */
  async function setPainting(what) {
    if (what && studio.source?.element === null) await studio.choose("paint"); // there is nothing to paint on
    const { painting } = frame.dataset;
    bar.hidden = !what;
    if (what) {
      if (!painting) before = frame.dataset.view;
      if (!painting) setView("beside");
      frame.dataset.painting = what;
      turn(what);
    } else if (painting) {
      delete frame.dataset.painting;
      setView(before);
    }
    studio.say("view", frame.dataset.view);
  }

  function tools() {
    const pause = iconButton("pause", "Pause (space)", () => studio.setPaused(!studio.paused));
    studio.addEventListener("link", () => {
      pause.paint(studio.paused ? "play" : "pause", studio.paused ? "Go on (space)" : "Pause (space)");
      pause.setAttribute("aria-pressed", String(studio.paused));
    });
    const names = Object.keys(VIEWS);
    const look = iconButton("inset", VIEWS.inset, () => setView(names[(names.indexOf(frame.dataset.view) + 1) % names.length]));
    const wipe = iconButton("wipe", WIPES.inset, () => setView({ wipe: "reference", reference: "inset" }[frame.dataset.view] ?? "wipe"));
    const brushes = iconButton("paint", "Paint on the input (p)", () => setPainting(frame.dataset.painting ? null : "colour"));
    studio.addEventListener("view", ({ detail: view }) => {
      if (view in VIEWS) look.paint(view, VIEWS[view]);
      wipe.paint("wipe", WIPES[view] ?? WIPES.inset);
      wipe.setAttribute("aria-pressed", String(view in WIPES && view !== "inset"));
      brushes.setAttribute("aria-pressed", String(Boolean(frame.dataset.painting)));
    });
    const save = iconButton("snapshot", "Save this picture with its settings (s)", () => studio.keep.snapshot());
    const share = iconButton("share", "Copy a link to these settings (l)", () => copyLink(share, studio));
    const full = iconButton("full", "Full screen (f)", () => fullscreen(host.closest("#rill-left") ?? box)); // with the prompt
    const prompt = () => document.querySelector("#rill-prompt textarea, #rill-prompt input")?.focus();
    const open = shortcuts([
      [" ", "Pause, go on", () => pause.click()],
      ["/", "Write the prompt", prompt],
      ["r", "Surprise me", () => studio.surprise()],
      ["i", "Input: inset, beside, hidden", () => look.click()],
      ["w", "Wipe: input, unaccelerated picture, off", () => wipe.click()],
      ["p", "Paint on the input", () => brushes.click()],
      ["e", "Eraser, while painting", () => keys.e.click()],
      ["z", "Take back a stroke, while painting", () => keys.z.click()],
      ["s", "Save the picture", () => save.click()],
      ["l", "Copy a link to these settings", () => share.click()],
      ["v", "Record, stop", () => studio.keep.record()],
      ["f", "Full screen", () => full.click()],
      ["?", "This sheet", () => open()],
    ]);
    const help = iconButton("help", "Keyboard shortcuts (?)", () => open());
    return make("div", { className: "rill-tools", aria: { role: "toolbar", label: "Output" } }, pause, save, share, look, wipe, brushes, full, help);
  }

  function wiper() {
    const slide = make("input", { type: "range", className: "rill-wiper", min: 0, max: 100, step: 0.5, value: 50, aria: { label: "Where the wipe stands" } });
    slide.addEventListener("input", () => frame.style.setProperty("--wipe", `${slide.value}%`));
    return slide;
  }
}

async function copyLink(button, studio) {
  history.replaceState(null, "", studio.address); // the address bar holds it too, where the clipboard is closed
  try {
    await navigator.clipboard.writeText(studio.address);
    button.paint("done", "Copied");
  } catch {
    button.paint("done", "The link is in the address bar");
  }
  setTimeout(() => button.paint("share", "Copy a link to these settings (l)"), 1500);
}

function fullscreen(box) {
  if (document.fullscreenElement) return document.exitFullscreen();
  return box.requestFullscreen?.().catch(() => box.classList.toggle("rill-filling")); // phones without it: fill the window
}

function showInput(inset, holder, studio) {
  const element = studio.source?.element ?? null;
  inset.hidden = element === null;
  inset.dataset.mirror = String(studio.pump.mirror);
  if (element && element.parentElement !== holder) {
    holder.replaceChildren(element);
    element.play?.().catch(() => {}); // moving a playing video in the document pauses it; a stopped one may refuse
  }
}

function showNotice(notice, text) {
  notice.hidden = !text;
  if (!text) return notice.replaceChildren();
  const close = make("button", { type: "button", className: "rill-link", textContent: "Dismiss", on: { click: () => showNotice(notice, "") } });
  const children = [make("span", { textContent: text }), close];
  if (self !== top && text.includes("own tab")) {
    children.splice(1, 0, make("a", { className: "rill-link", href: location.href, target: "_blank", rel: "noopener", textContent: "Open in a new tab" }));
  }
  return notice.replaceChildren(...children);
}

function acceptDrops(frame, studio) {
  frame.addEventListener("dragover", (event) => event.preventDefault());
  frame.addEventListener("drop", async (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files?.[0];
    if (file && !(await studio.keep.open(file))) studio.choose(file.type.startsWith("image/") ? "picture" : "clip", { file });
  });
}

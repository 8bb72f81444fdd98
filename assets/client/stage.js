// The output, large, with its few tools; the input as an inset, beside it or wiped over it; what is wrong, said on top of it.

import { words } from "./link.js";
import { iconButton, make, write } from "./dom.js";
import { easel, paintable } from "./easel.js";
import { shortcuts } from "./shortcuts.js";

const BRIEF = 8000; // ms that a passing remark stays
const VIEWS = {
  inset: "The input as an inset (i)",
  beside: "Input and output side by side (i)",
  alone: "The output alone (i)",
};

export function stage(host, studio, trigger) {
  const canvas = make("canvas", { className: "rill-canvas", id: "rill-output", width: 2, height: 2, aria: { role: "img", label: "Transformed picture" } });
  const picture = make("div", { className: "rill-picture" }, canvas);
  const holder = make("div", { className: "rill-holder" });
  const { layer } = studio;
  layer.canvas.className = "rill-layer";
  const inset = make("div", { className: "rill-inset", aria: { label: "Input", role: "group" } }, holder, layer.canvas);
  const veil = make("div", { className: "rill-veil" });
  const notice = make("div", { className: "rill-notice", hidden: true, aria: { role: "alert" } });
  const frame = make("div", { className: "rill-frame", dataset: { view: "inset" } }, picture, inset, wiper(), veil, notice);
  const { bar, brush, keys } = easel(studio, layer, () => setPainting(false));
  const box = make("div", { className: "rill-stagebox" }, frame, bar);
  host.append(box, make("div", { id: "rill-nursery", aria: { hidden: "true" } }));
  frame.after(tools());
  paintable(layer.canvas, layer, () => (frame.dataset.painting ? brush : null));

  studio.bridge = () => trigger("change");
  studio.addEventListener("source", () => {
    showInput(inset, holder, studio);
    if (studio.source?.kind === "paint" && !studio.opening) setPainting(true);
  });
  studio.addEventListener("notice", ({ detail: { text, brief } }) => {
    showNotice(notice, text);
    clearTimeout(notice.timer);
    if (brief) notice.timer = setTimeout(() => showNotice(notice, ""), BRIEF);
  });
  studio.addEventListener("welcome", ({ detail: { spec } }) => {
    frame.style.setProperty("--shape", `${spec.width} / ${spec.height}`);
    frame.style.setProperty("--ratio", spec.width / spec.height);
    layer.resize(spec.width, spec.height);
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
    if (frame.dataset.painting && view !== "beside") setPainting(false);
    frame.dataset.view = view;
    studio.say("view", view);
  }

  async function setPainting(on) {
    if (on === Boolean(frame.dataset.painting)) return;
    if (on && studio.source?.element === null) await studio.choose("paint"); // there is nothing to paint on
    if (on) {
      frame.dataset.before = frame.dataset.view;
      setView("beside");
      frame.dataset.painting = "true";
    } else {
      delete frame.dataset.painting;
      setView(frame.dataset.before);
    }
    bar.hidden = !on;
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
    const wipe = iconButton("wipe", "Wipe between input and output (w)", () => setView(frame.dataset.view === "wipe" ? "inset" : "wipe"));
    const brushes = iconButton("paint", "Paint on the input (p)", () => setPainting(!frame.dataset.painting));
    studio.addEventListener("view", ({ detail: view }) => {
      if (view in VIEWS) look.paint(view, VIEWS[view]);
      wipe.setAttribute("aria-pressed", String(view === "wipe"));
      brushes.setAttribute("aria-pressed", String(Boolean(frame.dataset.painting)));
    });
    const save = iconButton("snapshot", "Save this picture with its settings (s)", () => studio.keep.snapshot());
    const share = iconButton("share", "Copy a link to these settings (l)", () => copyLink(share, studio));
    const full = iconButton("full", "Full screen (f)", () => fullscreen(box));
    const prompt = () => document.querySelector("#rill-prompt textarea, #rill-prompt input")?.focus();
    const open = shortcuts([
      [" ", "Pause, go on", () => pause.click()],
      ["/", "Write the prompt", prompt],
      ["r", "Surprise me", () => studio.surprise()],
      ["i", "Input: inset, beside, hidden", () => look.click()],
      ["w", "Wipe between input and output", () => wipe.click()],
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
    const slide = make("input", { type: "range", className: "rill-wiper", min: 0, max: 100, step: 0.5, value: 50, aria: { label: "Wipe: share of the input" } });
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

// The output, large, with its few tools; the input as a small inset; what is wrong, said on top of it.

import { words } from "./link.js";
import { iconButton, make, write } from "./dom.js";

const BRIEF = 8000; // ms that a passing remark stays

export function stage(host, studio, trigger) {
  const canvas = make("canvas", { className: "rill-canvas", id: "rill-output", width: 2, height: 2, aria: { role: "img", label: "Transformed picture" } });
  const inset = make("div", { className: "rill-inset", aria: { label: "Input", role: "group" } });
  const veil = make("div", { className: "rill-veil" });
  const notice = make("div", { className: "rill-notice", hidden: true, aria: { role: "alert" } });
  const frame = make("div", { className: "rill-frame" }, canvas, veil, inset, tools(studio, () => frame, inset), notice);
  host.append(frame, make("div", { id: "rill-nursery", aria: { hidden: "true" } }));

  studio.bridge = () => trigger("change");
  studio.addEventListener("source", () => showInput(inset, studio));
  studio.addEventListener("notice", ({ detail: { text, brief } }) => {
    showNotice(notice, text);
    clearTimeout(notice.timer);
    if (brief) notice.timer = setTimeout(() => showNotice(notice, ""), BRIEF);
  });
  studio.addEventListener("welcome", ({ detail: { spec } }) => {
    frame.style.setProperty("--shape", `${spec.width} / ${spec.height}`);
    frame.style.setProperty("--ratio", spec.width / spec.height);
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
}

function tools(studio, frame, inset) {
  const pause = iconButton("pause", "Pause (space)", () => studio.setPaused(!studio.paused));
  studio.addEventListener("link", () => {
    pause.paint(studio.paused ? "play" : "pause", studio.paused ? "Go on (space)" : "Pause (space)");
    pause.setAttribute("aria-pressed", String(studio.paused));
  });
  const eye = iconButton("inset", "Show the input (i)", () => {
    inset.classList.toggle("rill-hidden");
    eye.setAttribute("aria-pressed", String(!inset.classList.contains("rill-hidden")));
  });
  eye.setAttribute("aria-pressed", "true");
  const save = iconButton("snapshot", "Save this picture (s)", () => studio.view.save(`rill-${Date.now()}.png`));
  const share = iconButton("share", "Copy a link to these settings (l)", () => copyLink(share, studio));
  const full = iconButton("full", "Full screen (f)", () => fullscreen(frame()));
  shortcuts({ " ": pause, i: eye, s: save, l: share, f: full });
  return make("div", { className: "rill-tools", aria: { role: "toolbar", label: "Output" } }, pause, save, share, eye, full);
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

function fullscreen(frame) {
  if (document.fullscreenElement) return document.exitFullscreen();
  return frame.requestFullscreen?.().catch(() => frame.classList.toggle("rill-filling")); // phones without it: fill the window
}

function shortcuts(buttons) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, textarea, select, button, [contenteditable], [role=radio], summary");
    if (typing) return;
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector("#rill-prompt textarea, #rill-prompt input")?.focus();
    } else if (event.key in buttons) {
      event.preventDefault();
      buttons[event.key].click();
    }
  });
}

function showInput(inset, studio) {
  const element = studio.source?.element ?? null;
  inset.hidden = element === null;
  inset.dataset.mirror = String(studio.pump.mirror);
  if (element && element.parentElement !== inset) {
    inset.replaceChildren(element);
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
  frame.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer?.files?.[0];
    if (file) studio.choose(file.type.startsWith("image/") ? "picture" : "clip", { file });
  });
}

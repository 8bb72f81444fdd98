// The tools over the picture, which go after a rest, and the keys of the page.

import { later, sheet as styles } from "../flow/later.js";
import { iconButton, make, press } from "./dom.js";
import { shortcuts } from "./shortcuts.js";

const VIEWS = {
  inset: "The input as an inset (i)",
  beside: "Input and output side by side (i)",
  alone: "The output alone (i)",
};
const WIPES = {
  inset: "Wipe between input and output (w)",
  wipe: "Wipe between full quality and the picture shown (w)",
  reference: "End the wipe (w)",
};
const LINK = "Copy a link to these settings (l)";

/** `whole` goes to full screen. */
export function tools(studio, { frame, setView, setPainting, whole }) {
  const pause = iconButton("pause", "Pause (space)", () => studio.setPaused(!studio.paused));
  studio.on("link", () => {
    pause.paint(studio.paused ? "play" : "pause", studio.paused ? "Resume (space)" : "Pause (space)");
    press(pause, studio.paused);
  });
  const names = Object.keys(VIEWS);
  const look = iconButton("inset", VIEWS.inset, () => setView(names[(names.indexOf(frame.dataset.view) + 1) % names.length]));
  const wipe = iconButton("wipe", WIPES.inset, () => setView({ wipe: "reference", reference: "inset" }[frame.dataset.view] ?? "wipe"));
  const brushes = iconButton("paint", "Paint on the input (p)", () => setPainting(frame.dataset.painting ? null : "colour"));
  studio.on("view", (view) => {
    if (view in VIEWS) look.paint(view, VIEWS[view]);
    wipe.paint("wipe", WIPES[view] ?? WIPES.inset);
    press(wipe, view in WIPES && view !== "inset");
    press(brushes, Boolean(frame.dataset.painting));
  });
  const record = iconButton("record", "Record (v)", () => studio.exchange((files) => files.record()));
  studio.on("recording", ({ active = false }) => {
    record.paint(active ? "stop" : "record", active ? "Stop recording (v)" : "Record (v)");
    press(record, active);
  });
  const save = iconButton("snapshot", "Save picture with its settings (s)", () => studio.exchange((files) => files.snapshot()));
  const share = iconButton("share", LINK, () => copyLink(share, studio));
  const full = iconButton("full", "Full screen (f)", () => fullscreen(whole));
  const prompt = () => document.querySelector("#rill-prompt textarea, #rill-prompt input")?.focus();
  const table = [
    [" ", "Pause, resume", () => pause.click()],
    ["/", "Write the prompt", prompt],
    ["123456789", "The first nine looks", (key) => studio.look(Number(key) - 1)],
    ["", "Move a look that has the focus", null],
    ["r", "Shuffle look", () => studio.surprise()],
    ["k", "Keep this look", () => studio.keepLook()],
    ["i", "Input: inset, beside, hidden", () => look.click()],
    ["w", "Wipe: input, full quality, off", () => wipe.click()],
    ["p", "Paint on the input", () => brushes.click()],
    ["e", "Eraser, while painting", () => studio.easel?.eraser.click()],
    ["z", "Undo a stroke, while painting", () => studio.easel?.undo.click()],
    ["s", "Save picture", () => save.click()],
    ["l", "Copy a link to these settings", () => share.click()],
    ["v", "Record, stop", () => record.click()],
    ["d", "Engine: open, close", () => studio.toggleEngine()],
    ["f", "Full screen", () => full.click()],
    ["?", "This sheet", () => open()],
  ];
  let sheet = null;
  const open = async () => {
    const loaded = await later(studio, () => Promise.all([import("./help.js"), styles("afterwards")]));
    if (loaded) (sheet ??= loaded[0].helpSheet(table)).showModal();
  };
  shortcuts(table);
  const help = iconButton("help", "Keyboard shortcuts (?)", () => open());
  return make("div", { className: "rill-tools", aria: { role: "toolbar", label: "Output" } }, pause, record, save, share, look, wipe, brushes, full, help);
}

async function copyLink(button, studio) {
  history.replaceState(null, "", studio.address); // where the clipboard is closed
  try {
    await navigator.clipboard.writeText(studio.address);
    button.paint("done", "Copied");
  } catch {
    button.paint("done", "The link is in the address bar");
  }
  setTimeout(() => button.paint("share", LINK), 1500);
}

function fullscreen(box) {
  if (document.fullscreenElement) return document.exitFullscreen();
  return box.requestFullscreen?.().catch(() => box.classList.toggle("rill-filling")); // phones without it
}

const REST = 3000; // ms

/** `data-idle` of `box` is "true" while nobody moves anything there. */
export function idle(box, studio) {
  let timer = null;
  const kept = () => studio.paused || document.querySelector(".rill-frame[data-painting], .rill-tools :focus-visible, dialog[open]") !== null
    || (document.fullscreenElement !== null && document.activeElement?.closest("#rill-prompts") !== null);
  const sleep = () => {
    if (kept() || !studio.seenPicture) return wake();
    box.dataset.idle = "true";
    return null;
  };
  function wake() {
    if (box.dataset.idle !== "false") box.dataset.idle = "false";
    clearTimeout(timer);
    timer = setTimeout(sleep, REST);
    return null;
  }
  for (const name of ["pointermove", "pointerdown", "keydown", "focusin", "wheel"]) box.addEventListener(name, wake, { passive: true });
  box.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && !document.fullscreenElement && !kept() && studio.seenPicture && sleep());
  addEventListener("keydown", () => document.fullscreenElement && wake());
  document.addEventListener("fullscreenchange", wake);
  wake();
}

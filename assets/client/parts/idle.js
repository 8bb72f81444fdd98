// Tools lie over the picture only while somebody is at it: after a rest they go, in full screen the inset, the prompt and the pointer too.

const REST = 3000; // ms

/** `box` is what full screen shows; its `data-idle` is "true" while nobody moves anything there. */
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

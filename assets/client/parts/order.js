// It comes after the first picture. Looks change places by hand: a drag with the mouse, a drag after a long press with a finger, Alt and an arrow on the keyboard.

const SLOP = 6; // pixels until a press is a drag
const PRESS = 350; // ms until a finger's press is one: a shorter one scrolls

/** Lets the tiles of each `.rill-grid` in `host` change places; `done(grid, tile)` after a move, `undo()` when one is given up. */
export function movable(host, done, undo) {
  let drag = null; // { tile, grid, id, x, y, on, moved }
  const begin = () => {
    drag.on = true;
    drag.tile.dataset.dragged = "true";
    host.setPointerCapture(drag.id);
  };
  const end = (act, { clientX: x = -1, clientY: y = -1 } = {}) => {
    if (!drag) return;
    const { tile, grid, on, moved, timer } = drag;
    clearTimeout(timer);
    drag = null;
    delete tile.dataset.dragged;
    if (!on) return;
    if (!moved && tile.contains(document.elementFromPoint(x, y))) tile.firstChild.click(); // a slow or shaky press
    const stop = (event) => event.stopPropagation(); // the drag's end is no click
    host.addEventListener("click", stop, true);
    setTimeout(() => host.removeEventListener("click", stop, true));
    if (moved && tile.isConnected) act(grid, tile);
  };
  host.addEventListener("pointerdown", ({ target, pointerType, pointerId: id, isPrimary, button, clientX: x, clientY: y }) => {
    const tile = target.closest(".rill-tile");
    if (!tile || !isPrimary || button || target.closest(".rill-star")) return;
    drag = { tile, grid: tile.parentElement, id, x, y, on: false, timer: pointerType === "touch" ? setTimeout(begin, PRESS) : null };
  });
  host.addEventListener("pointermove", ({ clientX: x, clientY: y }) => {
    if (!drag || (!drag.on && Math.hypot(x - drag.x, y - drag.y) < SLOP)) return null;
    if (!drag.on && drag.timer) return end(undo); // it scrolls
    if (!drag.on) begin();
    return over(drag, x, y);
  });
  host.addEventListener("pointerup", (event) => end(done, event));
  for (const name of ["pointercancel", "lostpointercapture"]) host.addEventListener(name, () => end(undo));
  addEventListener("keydown", ({ key }) => key === "Escape" && end(undo));
  host.addEventListener("touchmove", (event) => drag?.on && event.preventDefault(), { passive: false }); // the page does not scroll
  host.addEventListener("contextmenu", (event) => drag?.timer && event.preventDefault());
}

/** Puts the dragged tile where the pointer is, within its own grid. */
function over(drag, x, y) {
  const { tile, grid } = drag;
  const other = document.elementFromPoint(x, y)?.closest(".rill-tile");
  if (!other || other === tile || other.parentElement !== grid) return;
  const behind = tile.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING;
  other[behind ? "after" : "before"](tile);
  drag.moved = true;
  tile.scrollIntoView({ block: "nearest", inline: "nearest" });
}

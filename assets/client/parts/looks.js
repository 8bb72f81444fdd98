// Looks in groups: presets with pictures made by the model, or a model's example prompts; first those kept in this browser.

import { iconButton, link, make, press } from "./dom.js";
import { fitting } from "../pure/settings.js";
import { KEPT, arranged, columnsOf, grouped, keyOf, looksFor, surprise, toggled, wearing } from "../pure/looks.js";
import { kept as stored, keep } from "../pure/storage.js";

const MANIFEST = new URL("../../presets/presets.json", import.meta.url);
const PLAIN = { blend: 0 }; // what a look undoes unless it says otherwise; the second prompt stays written
const STORE = "rill.looks";
const ORDER = "rill.order"; // { group: [keys] }, where somebody has moved looks
const SIDE = 144; // pixels

export function looks(host, studio) {
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", "Looks");
  const said = make("p", { className: "rill-spoken", aria: { role: "status" } });
  const manifest = fetch(MANIFEST).then((answer) => (answer.ok ? answer.json() : null), () => null); // null: the prompts will do
  let shown = [];
  let tiles = []; // buttons in the order of the page; a look may stand in "Kept" and in its group
  const apply = (settings) => {
    keepSecond(settings.prompt_b);
    studio.say("look");
    for (const [key, value] of Object.entries(fitting({ ...PLAIN, ...settings }, studio.settings.fields))) studio.settings.put(key, value);
  };
  /** A second prompt that somebody wrote and a look replaces is kept among the earlier ones. */
  const keepSecond = (next) => {
    const own = (studio.settings.wanted().prompt_b ?? "").trim();
    const known = shown.some(({ settings }) => settings.prompt === own || settings.prompt_b === own);
    if (!next || !own || own === next || known) return;
    studio.say("remember", own);
    studio.notice(`This look has a second prompt of its own. Yours, “${own}”, is among the earlier prompts.`, true);
  };
  let seen; // the key of the look worn last
  const paint = () => {
    const worn = studio.covered ? [] : tiles.filter((tile) => wearing(tile.look, studio.settings.values));
    for (const tile of tiles) press(tile, worn.includes(tile));
    const key = worn.length ? keyOf(worn[0].look) : null;
    if (key && seen !== undefined && key !== seen) bring(worn.at(-1), host);
    if (tiles.length) seen = key;
  };
  const kept = () => (stored(STORE) ?? []).filter((look) => look?.settings);
  const star = (look) => {
    keep(STORE, toggled(kept(), look));
    show(keyOf(look));
  };
  studio.surprise = () => apply(surprise(shown, studio.settings.values.prompt, Math.random));
  studio.look = (index) => tiles[index] && apply(tiles[index].look.settings);
  studio.keepLook = () => {
    if (studio.covered) return studio.notice("A picture's style is all there is to see: “Keep as a look” beside it keeps it.", true);
    const { prompt = "", prompt_b: second = "", blend = 0, strength } = studio.settings.wanted();
    const known = shown.find((look) => wearing(look, studio.settings.values));
    const settings = { prompt, ...(second && blend ? { prompt_b: second, blend } : {}), ...(strength === undefined ? {} : { strength }) };
    const look = known ?? { name: prompt.slice(0, 40) || "No prompt", settings, picture: thumbnail(studio.view.canvas) };
    const had = kept().some((item) => keyOf(item) === keyOf(look));
    if (!had) star(look);
    studio.notice(had ? `“${look.name}” is kept already.` : `“${look.name}” is kept, first among the looks.`, true);
  };

  function tile(look, index, starred) {
    const button = make("button", {
      className: look.picture ? "rill-look" : "rill-chip",
      title: `${look.name}${index < 9 ? ` (${index + 1})` : ""}. Drag to order`,
      dataset: { look: look.name },
      aria: { keyshortcuts: "Alt+ArrowLeft Alt+ArrowRight" },
      tabIndex: -1,
      onclick: () => apply(look.settings),
    }, look.picture && make("img", { src: look.picture, alt: "", loading: "lazy", draggable: false, width: SIDE, height: SIDE }), make("span", { textContent: look.name }));
    button.look = look;
    const mark = iconButton("star", `${starred ? "No longer keep" : "Keep"} ${look.name}`, () => star(look));
    mark.classList.add("rill-star");
    mark.tabIndex = -1; // the keyboard has "k"
    press(mark, starred);
    tiles.push(button);
    return make("div", { className: "rill-tile" }, button, mark);
  }

  /** Shows all looks; where the keyboard was here, the look with the key `focused` (in the group `where`) has it again. */
  function show(focused = null, where = null) {
    const had = host.contains(document.activeElement);
    const own = kept();
    const keys = new Set(own.map(keyOf));
    tiles = [];
    const places = stored(ORDER);
    host.replaceChildren(...arranged(grouped(shown, own), places).map(({ name, looks: some }) => make("section", { className: "rill-looksof" },
      make("h2", { textContent: name }),
      make("div", { className: "rill-grid", aria: { role: "group", label: name } }, ...some.map((look) => tile(look, tiles.length, name === KEPT || keys.has(keyOf(look))))))),
      ...(places ? [link("Usual order", () => (keep(ORDER, null), show()))] : []), said);
    if (tiles.length) tiles[0].tabIndex = 0;
    paint();
    const same = (each) => keyOf(each.look) === focused && (where === null || each.closest(".rill-grid").getAttribute("aria-label") === where);
    if (had && focused) tiles.find(same)?.focus({ preventScroll: true });
  }

  /** Keeps the order of a group's keys, in which `look` was moved; the number keys follow. */
  const order = (grid, keys, look) => {
    const name = grid.getAttribute("aria-label");
    keep(ORDER, { ...stored(ORDER), [name]: keys });
    show(keyOf(look), name);
    said.textContent = `${look.name} is number ${keys.indexOf(keyOf(look)) + 1} of ${keys.length} in ${name}.`;
  };
  studio.afterwards.then(({ movable }) => movable(host, (grid, { firstChild: { look } }) => order(grid, [...grid.children].map(({ firstChild }) => keyOf(firstChild.look)), look), () => show()));

  host.addEventListener("keydown", (event) => {
    if (!tiles.includes(event.target) || event.ctrlKey || event.metaKey) return;
    const grid = event.target.closest(".rill-grid");
    const some = event.altKey ? tiles.filter((tile) => grid.contains(tile)) : tiles; // with Alt the look itself goes there
    const at = some.indexOf(event.target);
    const next = neighbour(some, at, event.key);
    if (next === null) return;
    event.preventDefault();
    if (!event.altKey) return some[next].focus();
    const keys = some.map(({ look }) => keyOf(look));
    keys.splice(next, 0, ...keys.splice(at, 1));
    order(grid, keys, event.target.look);
  });
  host.addEventListener("focusin", ({ target }) => {
    if (!tiles.includes(target)) return;
    for (const each of tiles) each.tabIndex = each === target ? 0 : -1;
  });
  studio.on("welcome", async ({ model }) => {
    shown = looksFor(model, await manifest, MANIFEST);
    show();
  });
  for (const name of ["settings", "covered"]) studio.on(name, paint);
}

/** The index that a key leads to from tile `at`, or null. */
function neighbour(tiles, at, key) {
  const boxes = () => tiles.map((tile) => tile.getBoundingClientRect());
  const steps = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (steps) return Math.min(tiles.length - 1, Math.max(0, at + steps));
  if (key === "Home") return 0;
  if (key === "End") return tiles.length - 1;
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  return columnsOf(boxes(), at, key === "ArrowDown" ? 1 : -1);
}

/** Scrolls the chosen look into its own row or column, never the page: the prompt stays in sight. */
function bring(tile, host) {
  for (let box = tile.parentElement; box; box = box.parentElement) {
    const [outer, inner] = [box, tile].map((item) => item.getBoundingClientRect());
    const off = (start, end) => (inner[start] < outer[start] ? inner[start] - outer[start] - 8 : Math.max(0, inner[end] - outer[end] + 8));
    if (box.id === "rill-main") return;
    const { overflowX, overflowY } = getComputedStyle(box);
    if (/auto|scroll/.test(overflowX) && box.scrollWidth > box.clientWidth) box.scrollLeft += off("left", "right");
    if (/auto|scroll/.test(overflowY) && box.scrollHeight > box.clientHeight) box.scrollTop += off("top", "bottom");
  }
}

function thumbnail(canvas) {
  const small = make("canvas", { width: SIDE, height: SIDE });
  const side = Math.min(canvas.width, canvas.height);
  small.getContext("2d").drawImage(canvas, (canvas.width - side) / 2, (canvas.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  return small.toDataURL("image/jpeg", 0.8);
}

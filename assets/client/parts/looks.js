// Looks to choose from, in groups: presets with pictures that the model itself made, or the example prompts of a model that has
// none; first those that somebody has kept in this browser.

import { iconButton, make } from "./dom.js";
import { fitting } from "../pure/share.js";
import { KEPT, columnsOf, grouped, keyOf, looksFor, surprise, toggled, wearing } from "../pure/looks.js";
import { kept as stored, keep } from "../pure/storage.js";

const MANIFEST = new URL("../../presets/presets.json", import.meta.url);
const PLAIN = { blend: 0 }; // what a look undoes unless it says otherwise; a second prompt stays written, but not mixed in
const STORE = "rill.looks";
const SIDE = 144; // pixels of a kept look's picture

async function fetchManifest() {
  try {
    const answer = await fetch(MANIFEST);
    return answer.ok ? await answer.json() : null;
  } catch (error) {
    if (error instanceof TypeError) return null; // the server is away: the prompts will do
    throw error;
  }
}

export function looks(host, studio) {
  host.setAttribute("role", "group");
  host.setAttribute("aria-label", "Looks");
  const manifest = fetchManifest();
  let shown = [];
  let tiles = []; // the buttons, in the order of the page; the same look may stand in "Kept" and in its group
  const apply = (settings) => {
    keepSecond(settings.prompt_b);
    studio.say("look");
    for (const [key, value] of Object.entries(fitting({ ...PLAIN, ...settings }, studio.settings.fields))) studio.settings.put(key, value);
  };
  /** A look that brings a second prompt replaces one that somebody wrote: that one is kept among the earlier prompts. */
  const keepSecond = (next) => {
    const own = (studio.settings.wanted().prompt_b ?? "").trim();
    const known = shown.some(({ settings }) => settings.prompt === own || settings.prompt_b === own);
    if (!next || !own || own === next || known) return;
    studio.say("remember", own);
    studio.notice(`This look has a second prompt of its own. Yours, “${own}”, is among the earlier prompts.`, true);
  };
  let seen; // the key of the look that was last worn; what a page begins with is not brought into view
  const paint = () => {
    const worn = tiles.filter((tile) => wearing(tile.look, studio.settings.values));
    for (const tile of tiles) tile.setAttribute("aria-pressed", String(worn.includes(tile)));
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
      type: "button",
      className: look.picture ? "rill-look" : "rill-chip",
      title: index < 9 ? `${look.name} (${index + 1})` : look.name,
      dataset: { look: look.name },
      tabIndex: -1,
      on: { click: () => apply(look.settings) },
    }, look.picture && make("img", { src: look.picture, alt: "", loading: "lazy", width: SIDE, height: SIDE }), make("span", { textContent: look.name }));
    button.look = look;
    const mark = iconButton("star", `${starred ? "No longer keep" : "Keep"} ${look.name}`, () => star(look));
    mark.classList.add("rill-star");
    mark.tabIndex = -1; // the keyboard has "k"
    mark.setAttribute("aria-pressed", String(starred));
    tiles.push(button);
    return make("div", { className: "rill-tile" }, button, mark);
  }

  function show(focused = null) {
    const own = kept();
    const keys = new Set(own.map(keyOf));
    tiles = [];
    host.replaceChildren(...grouped(shown, own).map(({ name, looks: some }) => make("section", { className: "rill-looksof" },
      make("h2", { textContent: name }),
      make("div", { className: "rill-grid", aria: { role: "group", label: name } }, ...some.map((look) => tile(look, tiles.length, name === KEPT || keys.has(keyOf(look))))))));
    if (tiles.length) tiles[0].tabIndex = 0;
    paint();
    if (focused) tiles.find((each) => keyOf(each.look) === focused && host.contains(document.activeElement))?.focus();
  }

  host.addEventListener("keydown", (event) => {
    const at = tiles.indexOf(event.target);
    const next = at < 0 || event.ctrlKey || event.metaKey || event.altKey ? null : neighbour(tiles, at, event.key);
    if (next === null) return;
    event.preventDefault();
    tiles[next].focus();
  });
  host.addEventListener("focusin", ({ target }) => {
    if (!tiles.includes(target)) return;
    for (const each of tiles) each.tabIndex = each === target ? 0 : -1;
  });
  studio.addEventListener("welcome", async ({ detail: { model } }) => {
    shown = looksFor(model, await manifest, MANIFEST);
    show();
  });
  studio.addEventListener("settings", paint);
}

/** The tile that a key leads to from tile `at`, or null. */
function neighbour(tiles, at, key) {
  const boxes = () => tiles.map((tile) => tile.getBoundingClientRect());
  const steps = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (steps) return Math.min(tiles.length - 1, Math.max(0, at + steps));
  if (key === "Home") return 0;
  if (key === "End") return tiles.length - 1;
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  return columnsOf(boxes(), at, key === "ArrowDown" ? 1 : -1);
}

/** Scrolls the chosen look into its own row or column, never the page: whoever types does not lose sight of the prompt. */
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

/** What the canvas shows, small, as an address of its own. */
function thumbnail(canvas) {
  const small = make("canvas", { width: SIDE, height: SIDE });
  const side = Math.min(canvas.width, canvas.height);
  small.getContext("2d").drawImage(canvas, (canvas.width - side) / 2, (canvas.height - side) / 2, side, side, 0, 0, SIDE, SIDE);
  return small.toDataURL("image/jpeg", 0.8);
}

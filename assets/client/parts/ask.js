// Beside the prompt: earlier ones, the model's words, a surprise. Under it: what the model understood, and the second prompt in the mix.

import { later } from "../flow/later.js";
import { iconButton, link, make, plain, write } from "./dom.js";
import { History, blendAt } from "../pure/storage.js";
import { composing } from "./shortcuts.js";

const RESTED = 3000; // ms after which a prompt counts as meant
const STEP = 100; // ms

export function ask(host, studio) {
  const history = new History();
  const use = (prompt) => {
    if (prompt !== null) studio.settings.put("prompt", prompt);
  };
  const load = () => later(studio, () => import("./wordlist.js"));
  const before = menu(host, "recent", "Earlier prompts (arrow up in the prompt)", "Earlier prompts", async (close) =>
    (await load())?.earlier(history.items, (prompt) => (use(prompt), close())));
  const words = menu(host, "words", "Styles & words that the model knows", "Styles & words", async () => (await load())?.words(studio, use));
  const named = (button, text) => (button.append(text), button.classList.add("rill-plain"), button);
  host.append(named(words.button, "Styles & words"), named(iconButton("dice", "Shuffle look (r)", () => studio.surprise()), "Shuffle look"),
    before.button, iconButton("star", "Keep this look (k)", () => studio.keepLook()), before.list, words.list);

  studio.on("remember", (prompt) => history.add(prompt));
  let timer = null;
  studio.on("settings", ({ prompt }) => {
    if (prompt === history.last) return;
    history.last = prompt;
    clearTimeout(timer);
    timer = setTimeout(() => history.add(prompt), RESTED);
  });
  addEventListener("keydown", (event) => {
    if ((event.key !== "ArrowUp" && event.key !== "ArrowDown") || !event.target.closest?.("#rill-prompt")) return;
    if (composing(event) || event.shiftKey || event.ctrlKey || event.metaKey || event.altKey || !atEdge(event.target, event.key)) return;
    event.preventDefault();
    use(event.key === "ArrowUp" ? history.older(studio.settings.wanted().prompt) : history.newer(studio.settings.wanted().prompt));
  });
}

/** In several rows the arrows move the caret, until it is at the first or last character. */
function atEdge(box, key) {
  const { lineHeight, paddingTop } = getComputedStyle(box);
  if (box.scrollHeight - 2 * parseFloat(paddingTop) < 1.8 * parseFloat(lineHeight)) return true;
  return box.selectionStart === (key === "ArrowUp" ? 0 : box.value.length);
}

/** A button that opens a list; `fill(close)` resolves with what it shows, or with nothing where that cannot be had. */
function menu(host, name, tooltip, label, fill) {
  const list = make("div", { className: "rill-menu", hidden: true, aria: { role: "group", label } });
  const button = iconButton(name, tooltip, () => show(!wanted));
  let wanted = false; // what it shows may still load
  const show = async (open) => {
    wanted = open;
    const rows = open && (await fill(() => show(false)));
    if (wanted !== open) return;
    wanted = Boolean(rows);
    list.hidden = !rows;
    button.setAttribute("aria-expanded", String(!list.hidden));
    list.replaceChildren(...(rows || []));
  };
  button.setAttribute("aria-expanded", "false");
  addEventListener("pointerdown", ({ target }) => !wanted || list.contains(target) || button.contains(target) || show(false));
  host.addEventListener("keydown", ({ key }) => key === "Escape" && wanted && show(false));
  return { button, list };
}

export function travel(host, studio) {
  const seconds = make("input", { type: "number", min: 1, max: 120, value: 5, className: "rill-number", aria: { label: "Crossfade time in seconds" } });
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
  };
  const go = (to) => {
    stop();
    const from = studio.settings.wanted().blend ?? 0;
    const began = performance.now();
    const length = Math.min(120, Math.max(1, Number(seconds.value) || 5));
    seconds.value = length; // what is taken
    timer = setInterval(() => {
      const blend = blendAt(from, to, length, (performance.now() - began) / 1000);
      studio.settings.put("blend", blend);
      if (blend === to) stop();
    }, STEP);
  };
  const button = (text, to) => plain(text, () => go(to));
  host.append(button("Fade to A", 0), button("Fade to B", 1), make("label", { className: "rill-check" }, "Crossfade time", seconds, "s"));
  document.addEventListener("input", ({ target }) => target.closest?.("#rill-blend") && stop(), true); // the hand is stronger
}

export function mixture(host, studio) {
  const words = make("span");
  host.append(words, link("Edit", edit), link("Take it out", () => studio.settings.put("blend", 0)));
  host.setAttribute("role", "status");
  host.hidden = true;
  const paint = () => {
    const { prompt_b: second = "", blend = 0 } = studio.settings.values;
    const alone = second !== "" && blend === 1;
    host.hidden = second === "" || blend === 0 || studio.covered;
    document.querySelector("#rill-prompt")?.classList.toggle("rill-unused", alone);
    if (host.hidden) return;
    write(words, alone ? `Only prompt B is in the picture: “${second}”.` : `Prompt B is mixed in at ${Math.round(blend * 100)}%: “${second}”.`);
  };
  for (const name of ["settings", "covered"]) studio.on(name, paint);
}

function edit() {
  if (document.fullscreenElement) document.exitFullscreen();
  document.querySelector("#rill-prompt-b :is(textarea, input)")?.focus();
}

/** Remarks on the prompt, with what shows them once there is one (remarks.js). */
export function understood(host, studio) {
  host.setAttribute("role", "status");
  host.hidden = true;
  let newest = null;
  const silent = ({ understood: known = [], unknown = [], cut = [], idle = [] }) =>
    !unknown.length && !cut.length && !idle.length && known.every(({ by }) => by === "name");
  studio.on("words", async (detail) => {
    newest = detail;
    if (host.hidden && silent(detail)) return;
    const loaded = await later(studio, () => import("./remarks.js"));
    if (newest === detail) loaded?.show(host, studio, detail);
  });
}

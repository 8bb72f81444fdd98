// Styles that somebody has kept in this browser, as tiles: worn with a click, blended with the present one, renamed, downloaded, deleted.

import { alike, fitName, readStyle, renamed } from "../pure/stylefile.js";
import { shelve, shelved, unshelve } from "../flow/shelf.js";
import { download, iconButton, make, press } from "./dom.js";

/** { host, add(item), paint(ids, blends) }. `take(file, second)` wears a style, or blends it in; `call(bytes)` lets prompts name it; `say(text)` answers. */
export function styles({ take, call, say }) {
  const grid = make("div", { className: "rill-grid", aria: { role: "group", label: "My styles" } });
  const host = make("section", { className: "rill-looksof" }, make("h2", { textContent: "My styles" }), grid);
  let [worn, blends] = [[], false];
  /** `ids`: of the styles that are worn; `blending`: whether there is a picture that another one can be blended with. */
  const paint = (ids = worn, blending = blends) => {
    [worn, blends] = [ids, blending];
    for (const { button, blend, id } of grid.children) {
      press(button, worn.includes(id));
      blend.hidden = !blends || worn.includes(id);
    }
    host.dataset.empty = String(!grid.children.length);
  };
  const show = async () => {
    const items = await shelved();
    for (const { button } of grid.children) URL.revokeObjectURL(button.firstChild.src);
    grid.replaceChildren(...items.map(tile).filter(Boolean));
    paint();
  };

  /** Keeps the file of a style; one that is here already stays once, with the newer name. Resolves with its id. */
  async function add({ bytes }) {
    const known = (await shelved()).find((item) => alike(item.bytes, bytes));
    const id = known?.id ?? `${Date.now()}-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    await shelve({ id, bytes: new Uint8Array(bytes) });
    await show();
    return id;
  }

  function tile({ id, bytes }) {
    const style = readStyle(bytes);
    if (!style) return null;
    const { name, picture, licence } = style;
    const wear = (second) => take(Object.assign(new File([bytes], `${name}.safetensors`), { id }), second);
    const button = make("button", {
      className: "rill-look", title: [name, picture, licence].filter(Boolean).join("\n"), dataset: { style: name },
      onclick: ({ shiftKey }) => wear(shiftKey),
    }, make("img", { src: URL.createObjectURL(new Blob([style.tile], { type: "image/jpeg" })), alt: "", width: 144, height: 144 }), make("span", { textContent: name }));
    const bin = iconButton("bin", `Delete ${name}`, async () => {
      if (!bin.sure) return bin.paint("done", `Delete ${name} for good? Press again`, (bin.sure = true));
      await unshelve(id);
      await show();
      return say(`“${name}” is deleted.`);
    });
    bin.addEventListener("blur", () => bin.paint("bin", `Delete ${name}`, (bin.sure = false)));
    const save = iconButton("save", `Download ${name}`, () => download(new Blob([bytes]), `${name}.safetensors`));
    const pen = iconButton("paint", `Rename ${name}`, () => rename(place, name, async (next) => {
      const file = renamed(bytes, next);
      await shelve({ id, bytes: file });
      call(file);
      await show();
    }));
    const blend = iconButton("blend", `Blend ${name} with the present picture`, () => wear(true));
    const place = make("div", { className: "rill-tile" }, button, make("div", { className: "rill-acts" }, blend, pen, save, bin));
    return Object.assign(place, { button, blend, id });
  }

  show();
  return { host, add, paint };
}

/** A box for another name over a tile: Enter takes it, Escape and leaving do not. */
function rename(place, name, done) {
  const box = make("input", { type: "text", className: "rill-naming", value: name, aria: { label: `New name for ${name}` } });
  const end = () => box.remove();
  box.addEventListener("keydown", (event) => {
    const next = fitName(box.value);
    if (event.key === "Escape") end();
    if (event.key !== "Enter" || !next) return;
    box.removeEventListener("blur", end);
    done(next);
  });
  box.addEventListener("blur", end);
  place.append(box);
  box.select();
}

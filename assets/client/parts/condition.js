// Pictures as styles, or as prompts: chosen, dropped, pasted, or kept from an earlier visit; two blend; how a fit stands; what is kept.

import { encodePicture, messages } from "../wire/protocol.js";
import { fitName, LONGEST } from "../pure/stylefile.js";
import { fitWords } from "../pure/fitwords.js";
import { download } from "./keep.js";
import { iconButton, make, write } from "./dom.js";
import { incoming } from "./incoming.js";
import { readPrompt, SIDE } from "../flow/promptfile.js";
import { styles } from "./styles.js";

const REQUESTS = 2 ** 31; // settings count from 1
const WHOLE = 0.6; // from this picture.scale on a style is all there is
const HINT = `From ${WHOLE} on the weight below is the picture alone, under it the prompt's look joins in.`;

/** One of two pictures. worn: what the server has confirmed; asked: { item, request }, what it was sent; last: its fit's last message. */
function slot(second, use) {
  const files = make("input", { type: "file", hidden: true, aria: { label: second ? "Second picture prompt" : "Picture prompt" } });
  const seen = make("canvas", { width: SIDE, height: SIDE, className: "rill-prompt", hidden: true, aria: { role: "img", label: second ? "The second picture" : "The picture prompt" } });
  const remove = iconButton("bin", second ? "Remove the second picture" : "Remove the picture prompt", () => use.wear(null));
  const choose = make("button", { type: "button", className: "rill-plain", on: { click: () => files.click() } });
  files.onchange = () => {
    if (files.files[0]) use.take(files.files[0]);
    files.value = "";
  };
  const line = make("div", { className: "rill-sourceline", dataset: { second: String(second) } }, choose, seen, remove, files);
  return Object.assign(use, { second, files, seen, remove, choose, line, worn: null, asked: null, last: null });
}

export function picture(host, studio) {
  const said = make("p", { className: "rill-said", aria: { role: "status" } });
  const bar = make("progress", { max: 1, aria: { label: "Fit of the style" } });
  const stands = make("span", { className: "rill-said" });
  const stop = make("button", { type: "button", className: "rill-link", on: { click: () => studio.connection.send(messages.fit(!wanted)) } });
  const fitLine = make("div", { className: "rill-sourceline", hidden: true }, bar, stands, stop);
  const name = make("input", { type: "text", className: "rill-select", placeholder: "A name for this style", aria: { label: "Name of the style" } });
  const keep = make("form", { className: "rill-sourceline", hidden: true }, name, make("button", { type: "submit", className: "rill-plain", textContent: "Keep as a look" }));
  const slots = [false, true].map((second) => slot(second, { wear: (item) => wear(item, second), take: (file) => take(file, second) }));
  const shelf = styles(studio, (file, second) => take(file, second && Boolean(slots[0].worn)), (text) => write(said, text));
  host.append(slots[0].line, slots[1].line, said, fitLine, keep, shelf.host);
  let requests = REQUESTS;
  let takes = {}; // what the model takes: { picture, style }
  let keeping = null; // the request of the style that is to be kept
  let wanted = true; // whether styles may be fitted

  /** Sends a picture or style; null removes the present one. */
  function wear(item, second = false) {
    const { request } = (slots[Number(second)].asked = { item, request: ++requests });
    studio.connection.send(encodePicture(request, item?.format ?? 0, item?.bytes ?? null, second));
  }
  /** A file that somebody chose, dropped or pasted. */
  async function take(file, second = false) {
    const { item, wrong } = await readPrompt(file, takes.style);
    if (wrong) write(said, wrong);
    else wear(item, second);
  }
  const show = (id, shown) => document.getElementById(id)?.classList.toggle("rill-absent", !shown);
  function paint() {
    const [{ worn: first }, { worn: second }] = slots;
    for (const { seen, remove, worn } of slots) seen.hidden = remove.hidden = !worn;
    slots[1].line.hidden = !first && !second;
    keep.hidden = !first?.style && !second?.style;
    show("rill-picture-scale", takes.picture && (first || second));
    show("rill-picture-blend", takes.picture && first && second);
    write(slots[0].choose, first ? "Another picture" : takes.style ? "Use a picture as a style" : "Choose a picture");
    write(slots[1].choose, second ? "Another to blend" : "Blend with another");
    const fitted = slots.filter(({ worn }) => worn?.style && worn.size);
    const { share, words, more } = fitWords((fitted.find(({ last }) => last?.state === "fitting") ?? fitted.findLast(({ last }) => last))?.last ?? null, wanted);
    fitLine.hidden = !words;
    bar.hidden = share === null;
    bar.value = share ?? 0;
    write(stands, words);
    write(stop, more);
    stop.hidden = !more;
    shelf.paint([first?.item.id, second?.item.id]);
  }
  keep.onsubmit = (event) => {
    event.preventDefault();
    const fit = fitName(name.value);
    if (!fit) return write(said, `A style needs a name, 1 to ${LONGEST} letters.`);
    keeping = ++requests;
    return studio.connection.send(messages.keep(fit, keeping));
  };
  incoming(host, studio, take, () => takes);

  const confirmed = async (place, { request, present, size, style }) => {
    if (request !== place.asked?.request) return;
    const { item } = place.asked;
    place.last = null;
    place.worn = present ? { item, size, style } : null;
    if (present) place.seen.getContext("2d").drawImage(item.canvas, 0, 0, SIDE, SIDE);
    const titles = slots.map(({ worn }) => worn?.style?.name || worn?.item.name).filter(Boolean);
    name.value = fitName(titles.join(" and "));
    write(said, style ? `${item.name}: its style. ${HINT}` : "");
    if (place.second && present && studio.settings.values["picture.blend"] === 0) studio.settings.put("picture.blend", 0.5);
    paint();
    if (!present || !item.file || item.id) return;
    item.id = await shelf.add(item);
    paint();
  };
  studio.addEventListener("picture", ({ detail }) => confirmed(slots[0], detail));
  studio.addEventListener("picture_b", ({ detail }) => confirmed(slots[1], detail));
  studio.addEventListener("fit", ({ detail }) => {
    if ("wanted" in detail) ({ wanted } = detail);
    else slots[Number(detail.of === "picture_b")].last = detail;
    paint();
  });
  studio.addEventListener("style", async ({ detail: { request, name: called, file } }) => {
    if (request !== keeping) return;
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
    const id = await shelf.add({ bytes });
    if (!slots[1].worn) slots[0].worn.item.id = id;
    paint();
    const link = make("button", { type: "button", className: "rill-link", textContent: "Download the file", on: { click: () => download(new Blob([bytes]), `${called}.safetensors`) } });
    said.replaceChildren(`“${called}” is kept below. `, link);
  });
  /** True if the error was the answer to a picture or to a wish to keep one. */
  studio.pictureFailed = ({ request, message }) => {
    const place = slots.find(({ asked }) => asked && asked.request === request);
    if (!place && (keeping === null || request !== keeping)) return false;
    write(said, place ? `${place.asked.item?.label ?? "picture"}: ${message}` : message);
    if (place) place.asked = place.worn && { item: place.worn.item };
    return true;
  };
  studio.addEventListener("look", () => {
    if (studio.settings.values["picture.scale"] < WHOLE) return;
    for (const { worn, second } of slots) if (worn?.style) wear(null, second); // or nothing of the look would be seen
  });

  let session = null; // the one that has the pictures
  studio.addEventListener("welcome", ({ detail }) => {
    const { conditions = [] } = detail.model ?? {};
    takes = { picture: conditions.includes("picture"), style: conditions.includes("style") };
    show("rill-conditions", conditions.includes("control"));
    show("rill-style", takes.style);
    for (const item of [host, host.closest(".block")]) item?.classList.toggle("rill-absent", !takes.picture);
    shelf.host.hidden = !takes.style;
    for (const { files } of slots) files.accept = takes.style ? "image/*,.safetensors" : "image/*";
    if (studio.welcome.session !== session) {
      wanted = true;
      for (const { asked, second } of slots) if (asked?.item) queueMicrotask(() => wear(asked.item, second));
    }
    ({ session } = studio.welcome);
    paint();
  });
}

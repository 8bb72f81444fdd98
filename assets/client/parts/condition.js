// The controls of pictures as styles, or as prompts: chosen, dropped, pasted, or kept from an earlier visit; two blend; how a fit stands.

import { encodeName, encodePicture } from "../wire/conditions.js";
import { messages } from "../wire/protocol.js";
import { fitName, fitWords, LONGEST } from "../pure/stylefile.js";
import { download, fileInput, iconButton, link, make, offer, plain, write } from "./dom.js";
import { inOrder } from "../flow/later.js";
import { readPrompt, SIDE } from "../flow/promptfile.js";
import { shelved } from "../flow/shelf.js";
import { styles } from "./styles.js";

const REQUESTS = 2 ** 31; // settings count from 1
const WHOLE = 0.6; // from this picture.scale on a style is all there is
const HINT = `From ${WHOLE} on the weight below is the picture alone, under it the prompt's look joins in.`;

/** One of two pictures. worn: what the server has confirmed; asked: items by request, to which it has not answered; last: its fit's last message. */
function slot(second, use) {
  const files = fileInput(second ? "Second picture prompt" : "Picture prompt", use.take);
  const seen = make("canvas", { width: SIDE, height: SIDE, className: "rill-prompt", hidden: true, aria: { role: "img", label: second ? "The second picture" : "The picture prompt" } });
  const remove = iconButton("bin", second ? "Remove the second picture" : "Remove the picture prompt", () => use.wear(null));
  const choose = plain("", () => files.click());
  const line = make("div", { className: "rill-sourceline", dataset: { second: String(second) } }, choose, seen, remove, files);
  return Object.assign(use, { second, files, seen, remove, choose, line, worn: null, asked: new Map(), last: null });
}

/** { take(file, second) }: uses a file as picture prompt. */
export function condition(host, studio) {
  const said = make("p", { className: "rill-said", aria: { role: "status" } });
  const bar = make("progress", { max: 1, aria: { label: "Fit of the style" } });
  const stands = make("span", { className: "rill-said" });
  const stop = link("", () => studio.connection.send(messages.fit(!wanted)));
  const fitLine = make("div", { className: "rill-sourceline", hidden: true }, bar, stands, stop);
  const name = make("input", { type: "text", className: "rill-select", placeholder: "A name for this style", aria: { label: "Name of the style" } });
  const keep = make("form", { className: "rill-sourceline", hidden: true }, name, plain("Keep as a look", null, { type: "submit" }));
  const slots = [false, true].map((second) => slot(second, { wear: (item) => wear(item, second), take: (file) => take(file, second) }));
  const call = (bytes) => studio.connection.send(encodeName(++requests, bytes));
  const shelf = styles({ take: (file, second) => take(file, second && Boolean(slots[0].worn)), call, say: (text) => write(said, text) });
  host.append(slots[0].line, slots[1].line, said, fitLine, keep, shelf.host);
  let requests = REQUESTS;
  const reading = inOrder(); // the later file counts, however large the earlier one
  let takes = {}; // what the model takes: { picture, style }
  let keeping = null; // the request of the style that is to be kept
  let wanted = true; // whether styles may be fitted

  /** Sends a picture or style; null removes the present one. */
  function wear(item, second = false) {
    slots[Number(second)].asked.set(++requests, item);
    studio.connection.send(encodePicture(requests, item?.format ?? 0, item?.bytes ?? null, second));
  }
  /** A file that somebody chose, dropped or pasted. */
  async function take(file, second = false) {
    const { item, wrong } = await reading(() => readPrompt(file, takes.style));
    if (wrong) write(said, wrong);
    else wear(item, second);
  }
  /** Whether pictures leave nothing of the words to be seen: then no look is worn. */
  function cover() {
    const covered = studio.settings.values["picture.scale"] >= WHOLE && slots.some(({ worn }) => worn?.style);
    if (covered === studio.covered) return;
    studio.covered = covered;
    studio.say("covered");
  }
  function paint() {
    const [{ worn: first }, { worn: second }] = slots;
    for (const { seen, remove, worn } of slots) seen.hidden = remove.hidden = !worn;
    slots[1].line.hidden = !first && !second;
    keep.hidden = !first?.style && !second?.style;
    offer("rill-picture-scale", takes.picture && (first || second));
    offer("rill-picture-blend", takes.picture && first && second);
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
    shelf.paint([first?.item.id, second?.item.id], Boolean(first));
    cover();
  }
  keep.onsubmit = (event) => {
    event.preventDefault();
    const fit = fitName(name.value);
    if (!fit) return write(said, `A style needs a name, 1 to ${LONGEST} letters.`);
    keeping = ++requests;
    return studio.connection.send(messages.keep(fit, keeping));
  };
  const confirmed = async (place, { request, present, size, style }) => {
    if (!place.asked.has(request)) return;
    const item = place.asked.get(request);
    for (const one of [...place.asked.keys()].filter((earlier) => earlier <= request)) place.asked.delete(one);
    place.last = null;
    place.worn = present ? { item, size, style } : null;
    if (present) place.seen.getContext("2d").drawImage(item.canvas, 0, 0, SIDE, SIDE);
    const titles = slots.map(({ worn }) => worn?.style?.name || worn?.item.name).filter(Boolean);
    name.value = fitName(titles.join(" and "));
    write(said, style ? `${item.name}: its style. ${HINT}` : "");
    if (place.second && present && studio.settings.wanted()["picture.blend"] === 0) studio.settings.put("picture.blend", 0.5);
    paint();
    if (!present || !item.file || item.id) return;
    item.id = await shelf.add(item);
    paint();
  };
  studio.on("picture", (detail) => confirmed(slots[0], detail));
  studio.on("picture_b", (detail) => confirmed(slots[1], detail));
  studio.on("fit", (detail) => {
    if ("wanted" in detail) ({ wanted } = detail);
    else slots[Number(detail.of === "picture_b")].last = detail;
    paint();
  });
  studio.on("style", async ({ request, name: called, file }) => {
    if (request !== keeping) return;
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
    const only = slots[1].worn ? null : slots[0].worn;
    const id = await shelf.add({ bytes });
    if (only) only.item.id = id;
    paint();
    said.replaceChildren(`“${called}” is kept below. `, link("Download the file", () => download(new Blob([bytes]), `${called}.safetensors`)));
  });
  /** True if the error was the answer to a picture or to a wish to keep one. */
  studio.pictureFailed = ({ request, message }) => {
    const place = slots.find(({ asked }) => asked.has(request));
    if (!place && (keeping === null || request !== keeping)) return false;
    write(said, place ? `${place.asked.get(request)?.label ?? "picture"}: ${message}` : message);
    place?.asked.delete(request);
    return true;
  };
  studio.on("settings", cover);
  studio.on("look", () => {
    if (studio.covered) for (const { worn, second } of slots) if (worn?.style) wear(null, second); // or nothing of the look would be seen
  });

  let session = null; // the one that has the pictures
  let socket = null;
  /** A new session gets what is worn, a new connection what the server has not answered. */
  const askAgain = (place, fresh) => {
    const open = studio.connection.socket === socket ? [] : [...place.asked.values()];
    const item = open.length ? open.at(-1) : fresh ? place.worn?.item : undefined;
    if (open.length) place.asked.clear();
    if (fresh && !item) place.worn = null;
    else if (item !== undefined) queueMicrotask(() => wear(item, place.second)); // once it is live
  };
  const welcomed = () => {
    const { conditions = [] } = studio.welcome.model ?? {};
    takes = { picture: conditions.includes("picture"), style: conditions.includes("style") };
    shelf.host.hidden = !takes.style;
    for (const { files } of slots) files.accept = takes.style ? "image/*,.safetensors" : "image/*";
    if (studio.welcome.session !== session) {
      wanted = true;
      if (takes.style) shelved().then((items) => items.forEach(({ bytes }) => call(bytes))); // prompts may name them
    }
    for (const place of slots) askAgain(place, studio.welcome.session !== session);
    ({ session } = studio.welcome);
    ({ socket } = studio.connection);
    paint();
  };
  studio.on("welcome", welcomed);
  welcomed();
  return { take };
}

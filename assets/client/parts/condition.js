// A picture as a style, or as a prompt: chosen, dropped, pasted, or kept from an earlier visit; how its fit stands; what is kept.

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

export function picture(host, studio) {
  const files = make("input", { type: "file", hidden: true, aria: { label: "Picture prompt" } });
  const seen = make("canvas", { width: SIDE, height: SIDE, className: "rill-prompt", hidden: true, aria: { role: "img", label: "The picture prompt" } });
  const said = make("span", { className: "rill-said", aria: { role: "status" } });
  const remove = iconButton("bin", "Remove the picture prompt", () => wear(null));
  const choose = make("button", { type: "button", className: "rill-plain", on: { click: () => files.click() } });
  const bar = make("progress", { max: 1, aria: { label: "Fit of the style" } });
  const stands = make("span", { className: "rill-said" });
  const stop = make("button", { type: "button", className: "rill-link", on: { click: () => studio.connection.send(messages.fit(!wanted)) } });
  const fitLine = make("div", { className: "rill-sourceline", hidden: true }, bar, stands, stop);
  const name = make("input", { type: "text", className: "rill-select", placeholder: "A name for this style", aria: { label: "Name of the style" } });
  const keep = make("form", { className: "rill-sourceline", hidden: true }, name, make("button", { type: "submit", className: "rill-plain", textContent: "Keep as a look" }));
  const shelf = styles(studio, (file) => take(file), (text) => write(said, text));
  host.append(make("div", { className: "rill-sourceline" }, choose, seen, remove, said), fitLine, keep, shelf.host, files);
  remove.hidden = true;
  let requests = REQUESTS;
  let takes = {}; // what the model takes: { picture, style }
  let worn = null; // what the server has confirmed
  let asked = null; // what it was sent: { item, request }
  let keeping = null; // the request of the style that is to be kept
  let wanted = true; // whether styles may be fitted
  let last = null; // the fit's last message

  /** Sends a picture or style; null removes the present one. */
  function wear(item) {
    asked = { item, request: ++requests };
    studio.connection.send(encodePicture(asked.request, item?.format ?? 0, item?.bytes ?? null));
  }
  /** A file that somebody chose, dropped or pasted. */
  async function take(file) {
    const { item, wrong } = await readPrompt(file, takes.style);
    if (wrong) write(said, wrong);
    else wear(item);
  }
  function paint() {
    const style = worn?.style ?? null;
    seen.hidden = remove.hidden = !worn;
    keep.hidden = !style;
    document.getElementById("rill-picture-scale")?.classList.toggle("rill-absent", !worn);
    write(choose, worn ? "Another picture" : takes.style ? "Use a picture as a style" : "Choose a picture");
    const { share, words, more } = fitWords(style && worn.size ? last : null, wanted);
    fitLine.hidden = !words;
    bar.hidden = share === null;
    bar.value = share ?? 0;
    write(stands, words);
    write(stop, more);
    stop.hidden = !more;
    shelf.paint(worn?.item.id ?? null);
  }
  files.onchange = () => {
    if (files.files[0]) take(files.files[0]);
    files.value = "";
  };
  keep.onsubmit = (event) => {
    event.preventDefault();
    const fit = fitName(name.value);
    if (!fit) return write(said, `A style needs a name, 1 to ${LONGEST} letters.`);
    keeping = ++requests;
    return studio.connection.send(messages.keep(fit, keeping));
  };
  incoming(host, studio, take, () => takes);

  studio.addEventListener("picture", async ({ detail: { request, present, size, style } }) => {
    if (request !== asked?.request) return;
    const { item } = asked;
    last = null;
    worn = present ? { item, size, style } : null;
    if (worn) seen.getContext("2d").drawImage(item.canvas, 0, 0, SIDE, SIDE);
    name.value = style?.name || fitName(item?.name ?? "");
    write(said, style ? `${item.name}: its style. From ${WHOLE} on the weight below is the picture alone, under it the prompt's look joins in.` : "");
    paint();
    if (!worn || !item.file || item.id) return;
    item.id = await shelf.add(item);
    paint();
  });
  studio.addEventListener("fit", ({ detail }) => {
    if ("wanted" in detail) ({ wanted } = detail);
    else last = detail;
    paint();
  });
  studio.addEventListener("style", async ({ detail: { request, name: called, file } }) => {
    if (request !== keeping) return;
    const bytes = Uint8Array.from(atob(file), (letter) => letter.charCodeAt(0));
    worn.item.id = await shelf.add({ bytes });
    paint();
    const link = make("button", { type: "button", className: "rill-link", textContent: "Download the file", on: { click: () => download(new Blob([bytes]), `${called}.safetensors`) } });
    said.replaceChildren(`“${called}” is kept below. `, link);
  });
  /** True if the error was the answer to a picture or to a wish to keep one. */
  studio.pictureFailed = ({ request, message }) => {
    if (request === undefined || (request !== asked?.request && request !== keeping)) return false;
    write(said, request === keeping ? message : `${asked.item.label}: ${message}`);
    return true;
  };
  studio.addEventListener("look", () => {
    if (!worn?.style || studio.settings.values["picture.scale"] < WHOLE) return;
    wear(null); // or nothing of the look would be seen
  });

  let session = null; // the one that has the picture
  studio.addEventListener("welcome", ({ detail }) => {
    const { conditions = [] } = detail.model ?? {};
    takes = { picture: conditions.includes("picture"), style: conditions.includes("style") };
    for (const [id, one] of [["rill-conditions", "control"], ["rill-style", "style"]]) {
      document.getElementById(id)?.classList.toggle("rill-absent", !conditions.includes(one));
    }
    for (const item of [host, host.closest(".block")]) item?.classList.toggle("rill-absent", !takes.picture);
    shelf.host.hidden = !takes.style;
    files.accept = takes.style ? "image/*,.safetensors" : "image/*";
    const item = asked?.item ?? null;
    if (studio.welcome.session !== session) [wanted, last] = [true, null];
    if (studio.welcome.session !== session && item) queueMicrotask(() => wear(item));
    ({ session } = studio.welcome);
    paint();
    if (!takes.picture) document.getElementById("rill-picture-scale")?.classList.add("rill-absent");
  });
}

// What the user takes away and brings back: pictures with their settings inside, settings files, recordings, performances.

import { make } from "./dom.js";
import { Moves, parseMoves } from "../pure/moves.js";
import { textOf, withText } from "../pure/png.js";
import { Recorder } from "../flow/recorder.js";
import { fitting } from "../pure/share.js";
import { keep as store, kept as stored } from "../pure/storage.js";

export const KEYWORD = "rill";
const FORMAT = "rill-settings-1";
const TOO_LARGE = 64 * 1024 * 1024;

export class Keep {
  constructor(studio) {
    this.studio = studio;
    this.moves = null; // what is done while a recording runs
    this.recorder = new Recorder((state) => studio.say("recording", state));
    studio.addEventListener("answer", () => this.recorder.painted());
    this.replaying = [];
  }

  /** The settings and what they ran on, as text. */
  get text() {
    const { settings, welcome } = this.studio;
    const { model, width, height, backend } = welcome?.spec ?? {};
    return JSON.stringify({ format: FORMAT, made: new Date().toISOString(), spec: { model, width, height, backend }, settings: settings.values }, null, 1);
  }

  /** The picture on the canvas as PNG bytes with the settings inside. */
  async picture() {
    const blob = await new Promise((resolve) => this.studio.view.canvas.toBlob(resolve, "image/png"));
    return withText(new Uint8Array(await blob.arrayBuffer()), KEYWORD, this.text);
  }

  async snapshot() {
    if (!this.studio.seenPicture) return this.studio.notice("There is no picture to save yet.", true);
    return this.#save(new Blob([await this.picture()], { type: "image/png" }), `${stamp()}.png`, "with its settings inside");
  }

  saveSettings() {
    this.#save(new Blob([this.text], { type: "application/json" }), `${stamp()}.json`, "all settings");
  }

  /** Hands a file to the browser, and says so: where downloads are silent nobody would know. */
  #save(blob, name, what) {
    download(blob, name);
    this.studio.notice(`Saved ${name}: ${what}, ${size(blob)}. It is among your downloads.`, true);
  }

  /** Takes a snapshot, a settings file or a performance; true if it was one of ours. */
  async open(file) {
    const text = await readText(file);
    if (text === null) return false;
    const kept = parse(text);
    if (kept === null) return false;
    if (kept.moves) this.replay(kept);
    else {
      const known = this.restore(kept.settings);
      this.studio.notice(known ? `Settings restored from ${file.name}.` : `${file.name} holds no settings that this server knows.`, true);
    }
    return true;
  }

  /** Puts back what this server declares; the rest starts from its default. Returns how many it knew. */
  restore(values) {
    const { settings } = this.studio;
    const known = fitting(values, settings.fields);
    for (const [key, { default: usual }] of Object.entries(settings.fields)) settings.put(key, key in known ? known[key] : usual);
    return Object.keys(known).length;
  }

  /** Begins or ends a recording of the output; the moves made meanwhile become a performance file beside it. */
  record() {
    const { recorder, studio } = this;
    if (!recorder.active) {
      if (!recorder.start(studio.view.canvas)) return studio.notice("This browser cannot record a canvas.", true);
      this.moves = new Moves(studio.settings.values, performance.now());
      return studio.notice("Recording the output. Press Stop or v to end it.", true);
    }
    this.made = { moves: this.moves.finish(performance.now()), name: stamp() };
    this.moves = null;
    return recorder.stop().then((video) => {
      this.made.video = video;
      const { seconds } = this.made.moves;
      this.#save(video, `${this.made.name}.${video.type.includes("mp4") ? "mp4" : "webm"}`, `${seconds.toFixed(1)} s of video`);
      studio.say("recording", this.made);
    });
  }

  saveMoves() {
    const { moves, name } = this.made;
    this.#save(new Blob([JSON.stringify(moves, null, 1)], { type: "application/json" }), `${name}-moves.json`, `${moves.moves.length} moves`);
  }

  /** Does again what a performance holds, in its own time, on the present input. */
  replay({ settings, moves, seconds }) {
    this.stopReplay();
    this.restore(settings);
    const later = (at, work) => this.replaying.push(setTimeout(work, at * 1000));
    const { settings: store } = this.studio;
    for (const { at, patch } of moves) later(at, () => Object.entries(fitting(patch, store.fields)).forEach(([key, value]) => store.held?.key === key || store.put(key, value))); // the hand is stronger
    later(seconds, () => this.stopReplay());
    this.studio.say("replay", { seconds, moves: moves.length });
  }

  stopReplay() {
    if (!this.replaying.length) return;
    this.replaying.forEach(clearTimeout);
    this.replaying = [];
    this.studio.say("replay", null);
  }
}

/** { settings } or { settings, moves, seconds } of our own files; null for anything else. */
export function parse(text) {
  try {
    const value = JSON.parse(text);
    if (value?.format === FORMAT && typeof value.settings === "object" && value.settings) return { settings: value.settings };
    return parseMoves(value);
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

async function readText(file) {
  if (file.size > TOO_LARGE) return null;
  if (file.type === "application/json" || file.name.endsWith(".json")) return file.text();
  if (file.type !== "image/png") return null;
  try {
    return textOf(new Uint8Array(await file.arrayBuffer()), KEYWORD);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

export function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const OUTPUT = "rill.output"; // the secret key of this browser's output place
const VIEW = new URL("../../view", import.meta.url).href;

/** Puts this session at its output place; { clean, mjpeg }, two addresses that outlive session and server, or null without a session. */
async function putOut({ connection: { at, resume } }) {
  const where = at ? `?at=${encodeURIComponent(at)}` : "";
  if (!stored(OUTPUT)) store(OUTPUT, btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24)))).replaceAll("+", "-").replaceAll("/", "_"));
  const headers = { "X-Rill-Resume": resume ?? "", "X-Rill-Output": stored(OUTPUT) };
  const answer = await fetch(VIEW + where, { method: "POST", headers }).catch(() => null);
  if (!answer?.ok) return null;
  const { token } = await answer.json();
  return { clean: `${VIEW}${where}#${token}`, mjpeg: `${VIEW}.mjpeg${where}${where ? "&" : "?"}token=${token}` };
}

/** Shows the addresses of the output. */
async function output(studio, host) {
  const found = await putOut(studio);
  if (!found) return studio.notice("There is no session to show yet. Try again when it is live.", true);
  const row = (label, url) => make("label", { className: "rill-view" }, label, make("input", { type: "text", readOnly: true, value: url, on: { focus: ({ target }) => target.select() } }));
  const open = make("a", { className: "rill-link", href: found.clean, target: "_blank", rel: "noopener", textContent: "Open it" });
  const words = make("p", { className: "rill-remark", textContent: "These addresses stay good: after a reload or a restart of the server they go on, and hold the last picture until then." });
  return host.replaceChildren(row("Clean page: OBS browser source, projector", found.clean), row("MJPEG: OBS media source", found.mjpeg), open, words);
}

const size = ({ size: bytes }) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

const stamp = () => `rill-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;

/** The panel: what can be saved, opened, recorded. */
export function keep(host, studio) {
  const button = (text, title, click) => make("button", { type: "button", className: "rill-plain", textContent: text, title, on: { click } });
  const files = make("input", { type: "file", accept: ".json,.png", hidden: true, aria: { label: "Settings file or snapshot" } });
  files.addEventListener("change", async () => {
    const [file] = files.files;
    if (file && !(await studio.keep.open(file))) studio.notice(`${file.name} holds no settings of Rill.`, true);
    files.value = "";
  });
  const record = button("Record", "Record the output as a video (v)", () => studio.keep.record());
  const moves = button("Save moves", "What you changed while it was recorded, to be played again", () => studio.keep.saveMoves());
  const stop = button("Stop the replay", "", () => studio.keep.stopReplay());
  moves.hidden = stop.hidden = true;
  const addresses = make("div", {});
  const said = make("p", { className: "rill-remark", aria: { live: "polite" } });
  host.append(make("div", { className: "rill-buttons" },
    record,
    button("Save picture", "A PNG with the settings inside (s)", () => studio.keep.snapshot()),
    button("Copy link", "A link that restores these settings (l)", () => document.querySelector(".rill-tools button[aria-label^='Copy']").click()),
    button("Save settings", "All settings as a file", () => studio.keep.saveSettings()),
    button("Load…", "A settings file, a snapshot or recorded moves", () => files.click()),
    button("Output for OBS or projector", "Addresses that show the output, and nothing more", () => output(studio, addresses)),
    moves, stop), said, addresses, files);
  studio.addEventListener("recording", ({ detail: { active = false, seconds = 0, moves: made } }) => {
    record.textContent = active ? `Stop ${seconds.toFixed(0)} s` : "Record";
    record.setAttribute("aria-pressed", String(active));
    if (made) moves.hidden = made.moves.length === 0;
  });
  studio.addEventListener("welcome", () => stored(OUTPUT) && putOut(studio)); // whoever watches this place goes on
  studio.addEventListener("replay", ({ detail }) => {
    stop.hidden = detail === null;
    said.textContent = detail ? `Replaying ${detail.moves} moves in ${detail.seconds.toFixed(0)} s.` : "";
  });
}

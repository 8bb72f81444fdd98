// What the user takes away and brings back: pictures and files with settings, recordings, performances, links, outputs.

import { make, plain, press } from "./dom.js";
import { Moves, parseMoves, textOf, withText } from "../pure/files.js";
import { Recorder } from "../flow/recorder.js";
import { fitting } from "../pure/share.js";
import { goOn, join, output, share } from "./others.js";

export const KEYWORD = "rill";
const FORMAT = "rill-settings-1";
const TOO_LARGE = 64 * 1024 * 1024;

export class Keep {
  constructor(studio) {
    this.studio = studio;
    this.moves = null;
    this.recorder = new Recorder((state) => studio.say("recording", state));
    studio.on("answer", () => this.recorder.painted());
    this.replaying = [];
  }

  get text() {
    const { settings, welcome } = this.studio;
    const { model, width, height, backend } = welcome?.spec ?? {};
    return JSON.stringify({ format: FORMAT, made: new Date().toISOString(), spec: { model, width, height, backend }, settings: settings.values }, null, 1);
  }

  async picture() {
    const blob = await new Promise((resolve) => this.studio.view.canvas.toBlob(resolve, "image/png"));
    return withText(new Uint8Array(await blob.arrayBuffer()), KEYWORD, this.text);
  }

  get name() {
    return stamp();
  }

  async snapshot(what = "with its settings inside") {
    if (!this.studio.seenPicture) return this.studio.notice("There is no picture to save yet.", true);
    return this.#save(new Blob([await this.picture()], { type: "image/png" }), `${stamp()}.png`, what);
  }

  saveSettings() {
    this.#save(new Blob([this.text], { type: "application/json" }), `${stamp()}.json`, "all settings");
  }

  /** Hands a file to the browser, and says so: downloads may be silent. */
  #save(blob, name, what) {
    download(blob, name);
    this.studio.notice(`Saved ${name}: ${what}, ${size(blob)}. It is among your downloads.`, true);
  }

  /** Takes a snapshot, settings or performance; true if it was one of ours. */
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

  /** Puts back what this server declares, the rest to its default. Returns how many it knew. */
  restore(values) {
    const { settings } = this.studio;
    const known = fitting(values, settings.fields);
    for (const [key, { default: usual }] of Object.entries(settings.fields)) settings.put(key, key in known ? known[key] : usual);
    return Object.keys(known).length;
  }

  /** Begins or ends a recording; the moves made meanwhile become a file of their own. */
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

/** { settings } or { settings, moves, seconds } of our files, else null. */
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

const size = ({ size: bytes }) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

const stamp = () => `rill-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;

export function keep(host, studio) {
  const button = (text, title, click) => plain(text, click, { title });
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
  const panel = make("div", {});
  const said = make("p", { className: "rill-remark", aria: { live: "polite" } });
  host.append(make("div", { className: "rill-buttons" },
    record,
    button("Save picture", "A PNG with the settings inside (s)", () => studio.keep.snapshot()),
    button("Copy link", "A link that restores these settings (l)", () => document.querySelector(".rill-tools button[aria-label^='Copy']").click()),
    button("Save settings", "All settings as a file", () => studio.keep.saveSettings()),
    button("Load…", "A settings file, a snapshot or recorded moves", () => files.click()),
    button("Share picture", "The picture and a link that makes it again", () => share(studio)),
    button("Join by phone", "A code that brings a phone here", () => join(panel)),
    button("Output for OBS or projector", "Addresses that show the output, and nothing more", () => output(studio, panel)),
    moves, stop), said, panel, files);
  studio.on("recording", ({ active = false, seconds = 0, moves: made }) => {
    record.textContent = active ? `Stop ${seconds.toFixed(0)} s` : "Record";
    press(record, active);
    if (made) moves.hidden = made.moves.length === 0;
  });
  studio.on("welcome", () => goOn(studio));
  studio.on("replay", (detail) => {
    stop.hidden = detail === null;
    said.textContent = detail ? `Replaying ${detail.moves} moves in ${detail.seconds.toFixed(0)} s.` : "";
  });
}

// What the user takes away and brings back: pictures and files with settings, recordings, performances. It comes on its first use.

import { download } from "./dom.js";
import { inOrder } from "../flow/later.js";
import { Moves, parseMoves, textOf, withText } from "../pure/files.js";
import { Recorder } from "../flow/recorder.js";
import { fitting } from "../pure/settings.js";

const KEYWORD = "rill";
const FORMAT = "rill-settings-1";
const TOO_LARGE = 64 * 1024 * 1024;

export class Exchange {
  constructor(studio) {
    this.studio = studio;
    this.moves = null;
    this.recorder = new Recorder((state) => studio.say("recording", state));
    studio.on("answer", () => this.recorder.painted());
    this.replaying = [];
    this.reading = inOrder(); // the file that is opened last counts last, however large the one before
  }

  get text() {
    const { settings, welcome } = this.studio;
    const { model, width, height, backend } = welcome?.spec ?? {};
    return JSON.stringify({ format: FORMAT, made: new Date().toISOString(), spec: { model, width, height, backend }, settings: settings.values }, null, 1);
  }

  async picture() {
    const { text } = this; // of this picture
    const blob = await new Promise((resolve) => this.studio.view.canvas.toBlob(resolve, "image/png"));
    return withText(new Uint8Array(await blob.arrayBuffer()), KEYWORD, text);
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
    const text = await this.reading(() => readText(file));
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
    const made = (this.made = { moves: this.moves.finish(performance.now()), name: stamp() });
    this.moves = null;
    return recorder.stop().then((video) => {
      made.video = video;
      const { seconds } = made.moves;
      this.#save(video, `${made.name}.${video.type.includes("mp4") ? "mp4" : "webm"}`, `${seconds.toFixed(1)} s of video`);
      if (!recorder.active) studio.say("recording", made);
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

const size = ({ size: bytes }) => (bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

const stamp = () => `rill-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}`;

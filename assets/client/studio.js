// The live studio: wires source, pump, connection, settings, view; every part of the page mounts from here.

import { Connection } from "./wire/connection.js";
import { later, sheet } from "./flow/later.js";
import { messages } from "./wire/protocol.js";
import { Pump } from "./flow/pump.js";
import { SettingsStore, fromHash, toHash } from "./pure/settings.js";
import { keep, kept } from "./pure/storage.js";
import { cameraGranted, cameras, onCameraChange, openers, surroundings } from "./flow/sources.js";
import { Respec } from "./pure/respec.js";
import { Stats } from "./pure/stats.js";
import { View } from "./flow/view.js";
import * as parts from "./parts/parts.js";

const SAMPLE = new URL("../samples/sample.mp4", import.meta.url).href;
const HEALTH = new URL("../../healthz", import.meta.url).href;
const REMEMBERED = "rill.settings";
const FIT = "rill.fit";
const SUMMARY = { every: 500, most: 240 }; // ms; two minutes of them are kept for the charts
const RETURNS = [0, 1000, 3000]; // ms before each attempt: some cameras are listed before they give pictures
const ENDED = {
  camera: "The camera gives no pictures any more. Its last one stays; it goes on by itself when the camera is back, or choose an input.",
  screen: "Screen sharing has ended. The last picture stays until you choose an input.",
};

function address() {
  const url = new URL("../stream", import.meta.url);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/**
 * Events: link, welcome, words, answer, reference, source, notice, telemetry, settings, summary, view, paint, verdict, recording, replay,
 * picture, picture_b, fit, style, look, covered. `detail` has the value.
 */
export class Studio extends EventTarget {
  constructor() {
    super();
    this.stats = new Stats();
    this.source = null;
    this.turn = 0; // of the newest choice of an input
    this.onStage = 0; // of the input that is shown
    this.openings = new Set(); // turns under way
    this.paused = false;
    this.seenPicture = false;
    this.covered = false; // by pictures as styles: nothing of the prompt is seen
    this.welcome = null;
    this.telemetry = null;
    this.view = null;
    this.bridge = null; // Gradio's controls must show other values
    this.changes = new Set();
    this.connection = new Connection(address(), HEALTH, {
      state: () => this.say("link"),
      welcome: (message) => this.#welcomed(message),
      answer: (answer, bytes) => this.#answered(answer, bytes),
      reference: (reference) => this.say("reference", reference),
      settings: (message) => this.#acknowledged(message),
      pause: ({ paused }) => this.#pausedByServer(paused),
      ...Object.fromEntries(["picture", "picture_b", "fit", "style"].map((type) => [type, (message) => this.say(type, message)])),
      telemetry: (message) => {
        this.respec.permit(message.refused);
        this.say("telemetry", (this.telemetry = message));
      },
      building: (message) => this.respec.building(message),
      spec: (message) => this.#respecced(message),
      error: (message) => this.respec.failed(message) || this.settings.failed(message) || this.pictureFailed?.(message) || this.notice(message.message, true),
      rtt: (ms) => (this.stats.rtt = ms),
    });
    this.connection.settings = () => this.settings.wanted();
    this.settings = new SettingsStore({
      send: (patch, request) => this.#send(patch, request),
      changed: (keys) => this.#controlsChanged(keys),
      settled: () => this.#settled(),
      refused: (field, message) => this.notice(message.startsWith(field) ? message : `${field}: ${message}`, true),
      later: (callback, ms) => setTimeout(callback, ms),
      cancel: (timer) => clearTimeout(timer),
    });
    this.respec = new Respec({ send: (changes, request) => this.connection.send(messages.spec(changes, request)) });
    this.pump = new Pump(this.connection, this.stats);
    this.easel = null; // once somebody paints
    this.exchanged = null; // once something is saved, recorded or opened
    this.remembered = kept(REMEMBERED) ?? ""; // of an earlier visit
    this.trial = null;
    this.auto = null;
    this.clock = () => performance.now() / 1000; // s; what "Auto" judges by
    this.summaries = [];
    this.setFit(kept(FIT) ?? "crop");
    this.drawer = new Promise((resolve) => (this.drawerLoaded = resolve));
    this.afterwards = new Promise((resolve) => (this.afterwardsLoaded = resolve));
    this.drawer.then(({ watchTrial }) => watchTrial(this));
  }

  /** Calls `act(detail)` at every event of this name. */
  on(name, act) {
    this.addEventListener(name, ({ detail }) => act(detail));
  }

  say(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** A sentence on top of the output: about the input, until that changes, or a `brief` one about anything else. An empty one ends it. */
  notice(text, brief = false) {
    this.say("notice", { text, brief });
  }

  get link() {
    const { paused, seenPicture, source } = this;
    return { ...this.connection.link, paused, seenPicture, source, waitingSince: this.pump.waitingSince };
  }

  start(canvas) {
    this.view = new View(canvas);
    this.connection.connect();
    addEventListener("pagehide", ({ persisted }) => this.connection.end(persisted));
    addEventListener("pageshow", ({ persisted }) => persisted && this.connection.connect());
    addEventListener("online", () => this.connection.link.state === "lost" && this.connection.connect());
    document.addEventListener("visibilitychange", () => {
      const { state } = this.connection.link;
      if (!document.hidden && (state === "ended" || state === "lost") && this.connection.resume) this.connection.connect();
    });
    onCameraChange(() => this.#cameraIsBack());
    setInterval(() => document.hidden || this.#summarise(), SUMMARY.every);
    this.#firstSource();
  }

  #summarise() {
    const summary = this.stats.summary(performance.now());
    this.summaries = [...this.summaries.slice(1 - SUMMARY.most), summary];
    this.say("summary", summary);
  }

  /** What `act(files)` gives, with the file exchange, which comes on its first use; null while the server is away. */
  async exchange(act) {
    const loaded = await later(this, () => Promise.all([import("./parts/exchange.js"), sheet("afterwards")]));
    if (!loaded) return null;
    this.exchanged ??= new loaded[0].Exchange(this);
    return act(this.exchanged);
  }

  /** What comes after the first picture (afterwards.js); null while the server is away. */
  async loadAfterwards() {
    const loaded = await later(this, () => Promise.all([import("./parts/afterwards.js"), sheet("afterwards")]));
    if (loaded) this.afterwardsLoaded(loaded[0]);
    return loaded && loaded[0];
  }

  /** The parts of the drawer, which mount once they are here; null while the server is away. */
  async loadDrawer() {
    const loaded = await later(this, () => Promise.all([import("./parts/engine.js"), sheet("engine")]));
    if (!loaded) return null;
    this.drawerLoaded(loaded[0]);
    return this.drawer;
  }

  get opening() {
    return this.openings.size;
  }

  async #firstSource() {
    const granted = await cameraGranted();
    if (!this.turn) await this.choose(granted ? "camera" : "sample", {}, { quiet: granted });
  }

  /**
   * Opens an input; the present one stays until its first picture. True if it came. Of several choices the latest that comes is shown.
   * `fallback`: the notice about another input stays.
   */
  async choose(kind, options = {}, { fallback = false, quiet = fallback } = {}) {
    const turn = ++this.turn;
    this.openings.add(turn);
    if (!quiet) this.notice("");
    this.say("source");
    try {
      const source = await this.#open(kind, options);
      if (!source || !(await this.#wins(turn, source))) return false;
      this.onStage = turn;
      this.#use(source);
      if (!fallback) this.notice("");
      return true;
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      const faults = quiet ? null : await later(this, () => import("./pure/faults.js"));
      if (faults && turn === this.turn) this.notice(faults.explain(options.file ? "clip" : kind, error, { ...surroundings(kind), file: options.file?.name }));
      return false;
    } finally {
      this.openings.delete(turn);
      this.say("source");
      if (!this.source && !this.opening && kind !== "sample") this.choose("sample", {}, { fallback: true });
    }
  }

  /** The source of an input, with its first picture; null while the server is away. */
  async #open(kind, options) {
    if ((kind === "camera" || kind === "screen") && !surroundings(kind).supported) throw new DOMException("", "NotSupportedError");
    if (!options.file && kind in openers) return openers[kind](kind === "sample" ? { url: SAMPLE } : options);
    const stills = await later(this, () => import("./flow/stills.js"));
    if (!stills) return null;
    if (options.file) kind = await stills.fileKind(options.file);
    return (openers[kind] ?? stills.openers[kind])(options);
  }

  /** Whether a source goes on the stage. It waits for later choices, which may fail; not where nothing is shown yet. */
  async #wins(turn, source) {
    const waits = () => this.source && [...this.openings].some((other) => other > turn);
    while (waits()) await new Promise((resolve) => this.addEventListener("source", resolve, { once: true }));
    if (turn > this.onStage) return true;
    source.stop();
    return false;
  }

  #use(source) {
    const old = this.source;
    this.source = source;
    this.pump.mirror = source.kind === "camera" && (this.mirror ?? !source.away);
    this.pump.use(source);
    old?.stop();
    source.onend = () => this.#hold(source);
    if (source.ended) source.onend(); // while it waited
  }

  /** The last picture of a source that has ended. */
  async #hold(source) {
    const stills = await later(this, () => import("./flow/stills.js"));
    if (!stills || source !== this.source) return;
    const still = stills.held(source);
    still.begin();
    this.#use(still);
    this.notice(ENDED[source.kind]);
    this.say("source");
  }

  /** Goes on with a camera that is back, if nobody has chosen anything else. */
  async #cameraIsBack() {
    for (const pause of RETURNS) {
      await new Promise((resolve) => setTimeout(resolve, pause));
      const { source } = this;
      if (!source?.held || source.kind !== "camera" || this.opening) return;
      const there = (await cameras()).some(({ deviceId }) => deviceId === source.deviceId);
      if (there && (await this.choose("camera", { deviceId: source.deviceId }, { quiet: true }))) return;
    }
  }

  setMirror(mirror) {
    this.mirror = mirror;
    this.pump.mirror = mirror && this.source?.kind === "camera";
    this.say("source");
  }

  /** "crop" or "fit": how an input of another shape comes into the picture. */
  setFit(fit) {
    this.pump.fit = fit === "fit";
    document.body.dataset.fit = fit;
    keep(FIT, this.pump.fit ? fit : null);
  }

  setPaused(paused) {
    this.paused = paused;
    this.pump.paused = paused;
    const { state } = this.connection.link;
    if (!paused && state === "ended" && this.connection.resume) this.connection.connect(); // it ended because nothing came
    else this.connection.send(messages.pause(paused));
    this.say("link");
  }

  #pausedByServer(paused) {
    this.paused = this.pump.paused = paused;
    this.say("link");
  }

  #welcomed(message) {
    const { spec, limits, last_frame_id: lastId } = message;
    const first = this.welcome === null;
    this.welcome = message;
    this.stats.clear(performance.now());
    this.view.reset(lastId, spec.width, spec.height);
    this.respec.welcome(message);
    this.settings.welcome(message.settings, message.fields);
    this.say("words", message.settings);
    if (this.seenPicture) this.loadAfterwards(); // where the server was away before
    const own = this.settings.pending; // moved before there was a model
    if (first) for (const [key, value] of Object.entries(fromHash(location.hash || this.remembered, message.fields))) key in own || this.settings.put(key, value);
    const paused = this.paused; // outlives the connection
    this.pump.welcome({ ...message, paused });
    queueMicrotask(() => paused !== message.paused && this.connection.send(messages.pause(paused)));
    this.say("welcome", { spec, limits, model: message.model });
  }

  #acknowledged(message) {
    this.settings.acknowledged(message);
    this.say("words", message);
  }

  /** Another pipeline runs from here on; the session goes on. */
  #respecced({ spec, model, fields, settings, adjusted }) {
    Object.assign(this.welcome, { spec, model, fields });
    this.pump.size = { width: spec.width, height: spec.height };
    this.view.reset(this.view.last, spec.width, spec.height);
    this.respec.done({ spec, adjusted });
    this.#acknowledged(settings);
    this.say("welcome", { spec, limits: this.welcome.limits, model });
  }

  async #answered(answer, bytes) {
    const now = performance.now();
    this.stats.answered(now, answer, bytes);
    this.pump.answered(answer, now);
    if (this.trial) this.say("verdict", answer);
    if (!answer.picture) return;
    if (!(await this.view.show(answer))) return;
    const painted = performance.now();
    this.stats.shown(painted, painted - answer.capturedAt * 1000, painted - now);
    if (!this.seenPicture) {
      this.seenPicture = true;
      this.loadAfterwards();
      this.say("link");
    }
    this.say("answer", answer);
  }

  #send(patch, request) {
    if (!this.connection.send(messages.settings(patch, request))) return false;
    this.exchanged?.moves?.add(patch, performance.now());
    return true;
  }

  /** What a measurement or a goal has moved, and the probe, are nobody's choice. */
  #settled() {
    if (!this.trial && !this.auto) keep(REMEMBERED, toHash(Object.fromEntries(Object.entries(this.settings.values).filter(([key]) => !key.startsWith("probe."))), this.settings.fields));
    this.say("settings", this.settings.values);
  }

  #controlsChanged(keys) {
    for (const key of keys) this.changes.add(key);
    this.bridge?.();
  }

  reset() {
    for (const [key, field] of Object.entries(this.settings.fields)) this.settings.put(key, field.default);
  }

  get address() {
    const url = new URL(location.href);
    url.hash = toHash(this.settings.values, this.settings.fields);
    return url.href;
  }

  /** For Gradio: new values of `keys`; undefined leaves a control as it is. */
  values(keys) {
    const result = keys.map((key) => (this.changes.has(key) ? this.settings.values[key] : undefined));
    for (const key of keys) this.changes.delete(key);
    return result;
  }

  input(key, value, typed = false) {
    this.settings.set(key, value, typed);
    if (key === "strength_map.mode") this.say(value === "mask" ? "paint" : "unmask", "mask");
  }
}

const studio = new Studio();
globalThis.rill = studio;

/** Called by every gr.HTML with its own element. */
export function mount(element, props, trigger) {
  const host = element.querySelector("[data-part]");
  if (!host || host.dataset.mounted) return;
  host.dataset.mounted = "yes";
  const name = host.dataset.part;
  if (name in parts) parts[name](host, studio, trigger);
  else studio.drawer.then((others) => others[name](host, studio));
}

// Where pictures come from. A source has an `element` with the current picture (null for prompt only), its size, and calls
// `onpicture(time)` for a new one.

import { NEUTRAL, pictureType } from "../pure/media.js";
import { ticking } from "./ticker.js";

const STILL_INTERVAL = 33; // ms between two sends of a picture that stands still, and two looks at a video in a hidden page
const PAPER = 512; // pixels
const START_LIMIT = 8000; // ms until a source without a picture has failed

class VideoSource {
  constructor(kind, label) {
    Object.assign(this, { kind, label, onpicture: null, onend: null });
    this.element = document.createElement("video");
    Object.assign(this.element, { muted: true, playsInline: true, autoplay: true, disablePictureInPicture: true });
    this.element.setAttribute("aria-hidden", "true");
    // A held clip goes on being sent, so that prompt and sliders work on it.
    this.element.addEventListener("pause", () => (this.still ??= ticking(STILL_INTERVAL, () => this.onpicture?.(performance.now()))));
    this.element.addEventListener("playing", () => this.#moving());
  }

  get seekable() {
    return !this.element.srcObject && Number.isFinite(this.element.duration);
  }

  #moving() {
    this.still?.();
    this.still = null;
  }

  #watchHidden() {
    const look = () => {
      this.hidden?.();
      this.hidden = document.hidden && !this.stopped ? ticking(STILL_INTERVAL, () => this.still || this.onpicture?.(performance.now())) : null;
    };
    document.addEventListener("visibilitychange", look);
    this.unwatch = () => document.removeEventListener("visibilitychange", look);
    look();
  }

  get width() {
    return this.element.videoWidth;
  }

  get height() {
    return this.element.videoHeight;
  }

  /** Resolves with the first picture. */
  async begin() {
    await visible(); // a hidden page gets no pictures
    await withLimit(this.element.play(), START_LIMIT);
    await withLimit(new Promise((resolve) => this.#next(resolve)), START_LIMIT);
    const tick = (time) => {
      if (this.stopped) return;
      this.onpicture?.(time);
      this.#next(tick);
    };
    this.#next(tick);
    this.#watchHidden();
    return this;
  }

  #next(callback) {
    const { element } = this;
    if (element.requestVideoFrameCallback) return element.requestVideoFrameCallback((now) => callback(now));
    const frame = globalThis.rillFrame ?? requestAnimationFrame; // calm.js slows the other name down
    const seen = element.currentTime;
    const look = (now) => (element.currentTime !== seen || this.stopped ? callback(now) : frame(look));
    return frame(look);
  }

  stop() {
    this.stopped = true;
    this.unwatch?.();
    this.hidden?.();
    this.onpicture = null;
    this.element.pause();
    queueMicrotask(() => this.#moving());
    for (const track of this.element.srcObject?.getTracks() ?? []) track.stop();
    this.element.srcObject = null;
    if (this.url) URL.revokeObjectURL(this.url);
    this.element.removeAttribute("src");
    this.element.remove();
  }
}

class TimedSource {
  constructor(kind, label, element, width, height) {
    Object.assign(this, { kind, label, element, width, height, onpicture: null, onend: null });
  }

  async begin() {
    this.end = ticking(STILL_INTERVAL, () => {
      this.frames?.advance(performance.now(), this.draw);
      this.onpicture?.(performance.now());
    });
    return this;
  }

  stop() {
    this.end?.();
    this.frames?.close();
    this.element?.remove();
  }
}

/** The last picture of a camera or screen that has ended, as a source of the same kind. */
export function held({ kind, label, element, width, height, deviceId, away }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d", { alpha: false }).drawImage(element, 0, 0, width, height);
  return Object.assign(new TimedSource(kind, label, canvas, width, height), { held: true, deviceId, away });
}

/** Each resolves with a source that has shown a picture, or throws what the browser threw. */
export const openers = {
  async camera({ deviceId = null, facing = "user" } = {}) {
    const size = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
    const video = deviceId ? { deviceId: { exact: deviceId }, ...size } : { facingMode: facing, ...size };
    return fromStream("camera", await navigator.mediaDevices.getUserMedia({ video, audio: false }));
  },
  async screen() {
    const video = { frameRate: { ideal: 30 } };
    return fromStream("screen", await navigator.mediaDevices.getDisplayMedia({ video, audio: false }));
  },
  async sample({ url }) {
    return fromAddress("sample", "Sample clip", url);
  },
  async clip({ file }) {
    const url = URL.createObjectURL(file);
    return fromAddress("clip", file.name, url, url);
  },
  async picture({ file }) {
    const type = await typeOf(file);
    const [bitmap, frames] = await Promise.all([createImageBitmap(file), animation(file, type)]);
    const canvas = document.createElement("canvas");
    const scale = Math.min(1, 1024 / Math.min(bitmap.width, bitmap.height));
    canvas.width = Math.round(bitmap.width * scale);
    canvas.height = Math.round(bitmap.height * scale);
    const draw = (picture) => onNeutral(canvas).drawImage(picture, 0, 0, canvas.width, canvas.height);
    draw(bitmap);
    bitmap.close();
    return Object.assign(new TimedSource("picture", file.name, canvas, canvas.width, canvas.height), { frames, draw }).begin();
  },
  async paint({ paper = "#f4f1ea" } = {}) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = PAPER;
    const source = new TimedSource("paint", "Canvas", canvas, PAPER, PAPER);
    source.fill = (colour) => {
      source.paper = colour;
      const context = canvas.getContext("2d", { alpha: false });
      context.fillStyle = colour;
      context.fillRect(0, 0, PAPER, PAPER);
    };
    source.fill(paper);
    return source.begin();
  },
  async prompt() {
    return new TimedSource("prompt", "Prompt only", null, 0, 0).begin();
  },
};

const typeOf = async (file) => pictureType(new Uint8Array(await file.slice(0, 16).arrayBuffer()));

/** "picture" or "clip", by content. */
export const fileKind = async (file) => (file.type === "image/svg+xml" || (await typeOf(file)) ? "picture" : "clip");

/** The context of an emptied canvas. */
export function onNeutral(canvas) {
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = NEUTRAL;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

async function fromStream(kind, stream) {
  const [track] = stream.getVideoTracks();
  const source = new VideoSource(kind, track.label || kind);
  const { deviceId = null, facingMode = null } = track.getSettings?.() ?? {};
  Object.assign(source, { deviceId, away: facingMode === "environment" });
  source.element.srcObject = stream;
  track.addEventListener("ended", () => source.stopped || source.onend?.());
  return started(source);
}

async function fromAddress(kind, label, address, url = null) {
  const source = new VideoSource(kind, label);
  source.url = url;
  source.element.loop = true;
  source.element.src = address;
  return started(source);
}

async function started(source) {
  document.getElementById("rill-nursery")?.append(source.element); // some browsers play only what is in the document
  try {
    return await source.begin();
  } catch (error) {
    source.stop();
    throw error;
  }
}

function visible() {
  if (!document.hidden) return null;
  return new Promise((resolve) => {
    const look = () => document.hidden || (document.removeEventListener("visibilitychange", look), resolve());
    document.addEventListener("visibilitychange", look);
  });
}

function withLimit(promise, ms) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new DOMException("no picture came", "AbortError")), ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

export function surroundings(kind) {
  const devices = navigator.mediaDevices;
  const supported = Boolean(kind === "screen" ? devices?.getDisplayMedia : devices?.getUserMedia);
  return { secure: isSecureContext, embedded: self !== top, supported };
}

export function onCameraChange(listener) {
  navigator.mediaDevices?.addEventListener?.("devicechange", listener);
}

/** [{ deviceId, label }]; without permission browsers hide the labels. */
export async function cameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const found = devices.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId);
  return found.map(({ deviceId, label }, index) => ({ deviceId, label: label || `Camera ${index + 1}` }));
}

/** May the camera be opened without asking? */
export async function cameraGranted() {
  try {
    return (await navigator.permissions.query({ name: "camera" })).state === "granted";
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // this browser does not know the permission
    return false;
  }
}

/** The frames of an animated picture, where the browser has an ImageDecoder, else null. `type`: its media type, or null. */
async function animation(file, type) {
  if (!type || !globalThis.ImageDecoder || !(await ImageDecoder.isTypeSupported(type))) return null;
  const decoder = new ImageDecoder({ type, data: await file.arrayBuffer() });
  const track = await decoder.tracks.ready.then(() => decoder.tracks.selectedTrack, () => null);
  if (!track?.animated) return decoder.close() ?? null;
  let [index, due, busy] = [0, 0, false];
  return {
    close: () => decoder.close(),
    /** Draws the next frame once it is due, in a loop. */
    async advance(now, draw) {
      if (busy || now < due) return;
      busy = true;
      const { image } = await decoder.decode({ frameIndex: index++ % track.frameCount }).catch(() => ({}));
      if (image) draw(image);
      due = Math.max(due, now - 100) + (image?.duration ?? 100_000) / 1000;
      image?.close();
      busy = false;
    },
  };
}

// Where moving pictures come from; stills.js has the other inputs. A source has an `element` with the current picture (null for prompt only), its size, and calls
// `onpicture(time)` for a new one.

import { ticking } from "./ticker.js";

export const STILL_INTERVAL = 33; // ms between two sends of a picture that stands still, and two looks at a video in a hidden page
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

/** By kind. Each resolves with a source that has shown a picture, or throws what the browser threw. */
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
};

async function fromStream(kind, stream) {
  const [track] = stream.getVideoTracks();
  const source = new VideoSource(kind, track.label || kind);
  const { deviceId = null, facingMode = null } = track.getSettings?.() ?? {};
  Object.assign(source, { deviceId, away: facingMode === "environment" });
  source.element.srcObject = stream;
  track.addEventListener("ended", () => {
    source.ended = true;
    if (!source.stopped) source.onend?.();
  });
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

// Records the output canvas in the browser: one video frame per painted picture, so a still scene costs nothing.

const TYPES = ["video/mp4;codecs=avc1.42E01F", "video/webm;codecs=vp8", "video/webm"];
const BITS = 4_000_000; // per second

export class Recorder {
  /** `changed({ active, seconds })` is called about once a second and at the end. */
  constructor(changed) {
    this.changed = changed;
    this.media = null;
  }

  get active() {
    return this.media !== null;
  }

  /** False if this browser cannot. */
  start(canvas) {
    const type = globalThis.MediaRecorder && TYPES.find((name) => MediaRecorder.isTypeSupported(name));
    if (!type || !canvas.captureStream) return false;
    this.stream = canvas.captureStream(0);
    [this.track] = this.stream.getVideoTracks();
    this.media = new MediaRecorder(this.stream, { mimeType: type, videoBitsPerSecond: BITS });
    this.chunks = [];
    this.media.ondataavailable = ({ data }) => data.size && this.chunks.push(data);
    this.media.start(1000);
    this.track.requestFrame();
    this.began = performance.now();
    this.timer = setInterval(() => this.#tell(), 1000);
    this.#tell();
    return true;
  }

  /** A new picture is on the canvas. */
  painted() {
    if (this.media) this.track.requestFrame();
  }

  /** Resolves with the video. */
  stop() {
    const { media, chunks, stream } = this;
    clearInterval(this.timer);
    this.track.requestFrame(); // the last picture lasts until here
    const done = new Promise((resolve) => (media.onstop = () => resolve(new Blob(chunks, { type: media.mimeType }))));
    media.stop();
    this.media = null;
    this.changed({ active: false });
    return done.finally(() => stream.getTracks().forEach((track) => track.stop()));
  }

  #tell() {
    this.changed({ active: true, seconds: (performance.now() - this.began) / 1000 });
  }
}

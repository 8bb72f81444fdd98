// Records the output canvas: one video frame per painted picture, so a still scene costs nothing.

const TYPES = ["video/mp4;codecs=avc1.42E01F", "video/webm;codecs=vp8", "video/webm"];
const BITS = 4_000_000; // per second

export class Recorder {
  /** `changed({ active, seconds })`: about once a second and at the end. */
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
    const stream = canvas.captureStream(0);
    const [track] = stream.getVideoTracks();
    const frames = [track, stream].find((each) => each.requestFrame); // the track's by the standard, the stream's in Firefox
    if (!frames) return false;
    const chunks = [];
    let media;
    try {
      media = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: BITS });
      media.ondataavailable = ({ data }) => data.size && chunks.push(data);
      media.start(1000);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      track.stop();
      return false;
    }
    Object.assign(this, { stream, frames, media, chunks });
    frames.requestFrame();
    this.began = performance.now();
    this.timer = setInterval(() => this.#tell(), 1000);
    this.#tell();
    return true;
  }

  painted() {
    if (this.media) this.frames.requestFrame();
  }

  stop() {
    const { media, chunks, stream } = this;
    clearInterval(this.timer);
    this.frames.requestFrame();
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

// The wire format of docs/protocol.md, version 1. Pure.

export const PROTOCOL = 1;
export const SUBPROTOCOL = "rill.v1";
const FRAME_HEADER = 16;
export const ANSWER_HEADER = 80;
export const FORMAT = Object.freeze({ none: 0, jpeg: 1, png: 2, webp: 3, style: 4 });
export const VERDICTS = Object.freeze(["generated", "cached", "skipped", "warming", "dropped", "failed"]);
const REASONS = Object.freeze(["none", "stale", "credit", "superseded", "unsent", "paused", "spec"]);
export const STAGES = Object.freeze(["receive", "unpack", "gate", "encode", "denoise", "decode", "pack", "send"]);

export const MAGIC = 0x52;
const MIME = { [FORMAT.jpeg]: "image/jpeg", [FORMAT.png]: "image/png" };

/** Header and picture in one buffer; `capturedAt` in seconds. */
export function encodeFrame(id, capturedAt, format, picture) {
  const bytes = new Uint8Array(FRAME_HEADER + (picture?.byteLength ?? 0));
  const header = new DataView(bytes.buffer);
  bytes.set([MAGIC, PROTOCOL, 1, format]);
  header.setUint32(4, id, true);
  header.setFloat64(8, capturedAt, true);
  if (picture) bytes.set(new Uint8Array(picture), FRAME_HEADER);
  return bytes.buffer;
}

/** A probe's full quality picture, or null. */
export function decodeReference(buffer) {
  if (buffer.byteLength <= FRAME_HEADER) return null;
  const view = new DataView(buffer);
  if (view.getUint8(0) !== MAGIC || view.getUint8(2) !== 4) return null;
  return { id: view.getUint32(4, true), mime: MIME[view.getUint8(3)], picture: new Uint8Array(buffer, FRAME_HEADER) };
}

/** An answer's fields; `picture` is a view on `buffer`, or null. Throws RangeError. */
export function decodeAnswer(buffer) {
  if (buffer.byteLength < ANSWER_HEADER) throw new RangeError(`answer of ${buffer.byteLength} bytes is too short`);
  const view = new DataView(buffer);
  if (view.getUint8(0) !== MAGIC || view.getUint8(1) !== PROTOCOL || view.getUint8(2) !== 2) {
    throw new RangeError("not an answer of protocol 1");
  }
  const verdict = VERDICTS[view.getUint8(24)];
  const format = view.getUint8(3);
  if (verdict === undefined || (format !== FORMAT.none && !MIME[format])) throw new RangeError("unknown verdict or format");
  const stages = {};
  STAGES.forEach((stage, index) => (stages[stage] = view.getFloat32(28 + 4 * index, true)));
  return {
    id: view.getUint32(4, true),
    capturedAt: view.getFloat64(8, true),
    settled: view.getUint32(16, true),
    settingsVersion: view.getUint32(20, true),
    verdict,
    reason: REASONS[view.getUint8(25)] ?? "none",
    stages,
    wait: view.getFloat32(60, true),
    total: view.getFloat32(64, true),
    quality: quality(view),
    mime: MIME[format] ?? null,
    picture: format === FORMAT.none ? null : new Uint8Array(buffer, ANSWER_HEADER),
  };
}

function quality(view) {
  const [ssim, psnr, flicker] = [68, 72, 76].map((offset) => view.getFloat32(offset, true));
  if (Number.isNaN(ssim)) return null;
  return { ssim, psnr, flicker: Number.isNaN(flicker) ? null : flicker };
}

export const messages = Object.freeze({
  hello({ resume = null, settings = null, quality: jpegQuality = 85 } = {}) {
    const hello = { type: "hello", protocol: PROTOCOL, client: "Rill page", picture: { format: "jpeg", quality: jpegQuality }, wait: true };
    if (resume) hello.resume = resume;
    if (settings && Object.keys(settings).length) hello.settings = settings;
    return JSON.stringify(hello);
  },
  settings: (patch, request) => JSON.stringify({ type: "settings", patch, request }),
  references: (wanted) => JSON.stringify({ type: "references", wanted }),
  fit: (wanted) => JSON.stringify({ type: "fit", wanted }),
  keep: (name, request) => JSON.stringify({ type: "keep", name, request }),
  spec: (spec, request) => JSON.stringify({ type: "spec", spec, request }),
  pause: (paused) => JSON.stringify({ type: "pause", paused }),
  ping: (t) => JSON.stringify({ type: "ping", t }),
  bye: () => JSON.stringify({ type: "bye" }),
});

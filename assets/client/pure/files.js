// What saved files hold: settings as text inside PNG (iTXt, PNG 1.2, 11.3.4.5), and performances. Pure.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

export function crc32(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = TABLE[(c ^ byte) & 0xff] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** A copy of the PNG with `text` right after its header. Throws RangeError if it is no PNG. */
export function withText(png, keyword, text) {
  const end = chunks(png).next().value.end; // of IHDR, always first
  const encoder = new TextEncoder();
  const data = [...encoder.encode(keyword), 0, 0, 0, 0, 0]; // not compressed, no language, no translated keyword
  const body = new Uint8Array([...encoder.encode("iTXt"), ...data, ...encoder.encode(text)]);
  const result = new Uint8Array(png.length + body.length + 8);
  const view = new DataView(result.buffer);
  result.set(png.subarray(0, end));
  view.setUint32(end, body.length - 4);
  result.set(body, end + 4);
  view.setUint32(end + 4 + body.length, crc32(body));
  result.set(png.subarray(end), end + 8 + body.length);
  return result;
}

/** The text under `keyword`, or null. Throws RangeError if it is no PNG. */
export function textOf(png, keyword) {
  const decoder = new TextDecoder();
  for (const { type, start, end } of chunks(png)) {
    if (type !== "iTXt") continue;
    const body = png.subarray(start, end - 4);
    const name = body.indexOf(0);
    if (decoder.decode(body.subarray(0, name)) !== keyword || body[name + 1] !== 0) continue;
    const language = body.indexOf(0, name + 3);
    return decoder.decode(body.subarray(body.indexOf(0, language + 1) + 1));
  }
  return null;
}

/** { type, start of its data, end after its checksum } of every chunk. */
function* chunks(png) {
  if (png.length < 33 || SIGNATURE.some((byte, index) => png[index] !== byte)) throw new RangeError("this is not a PNG file");
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = 8; at + 12 <= png.length; ) {
    const end = at + 12 + view.getUint32(at);
    if (end > png.length) return;
    yield { type: String.fromCharCode(...png.subarray(at + 4, at + 8)), start: at + 8, end };
    at = end;
  }
}

const FORMAT = "rill-performance-1";

export class Moves {
  /** `now` in ms of any clock. */
  constructor(settings, now) {
    this.settings = { ...settings };
    this.began = now;
    this.moves = [];
  }

  add(patch, now) {
    this.moves.push({ at: Math.round(now - this.began) / 1000, patch });
  }

  finish(now) {
    return { format: FORMAT, settings: this.settings, moves: this.moves, seconds: Math.round(now - this.began) / 1000 };
  }
}

/** What such a file holds, or null: times must rise and stay within its length. */
export function parseMoves(value) {
  if (value?.format !== FORMAT || !Array.isArray(value.moves) || !isObject(value.settings) || !(value.seconds >= 0)) return null;
  let last = 0;
  for (const { at, patch } of value.moves) {
    if (!(at >= last && at <= value.seconds) || !isObject(patch)) return null;
    last = at;
  }
  return { settings: value.settings, moves: value.moves, seconds: value.seconds };
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

// The file of a style (safetensors, docs/models.md): what the page reads of it, and another name in it. Pure: bytes in, bytes out.

import { crc32 } from "./files.js";

export const LARGEST = 256 * 1024; // bytes
export const LONGEST = 60; // characters of a name

/** { name, picture, licence, fitted, tile: JPEG bytes } of a style's file; null for other bytes. */
export function readStyle(bytes) {
  try {
    const { header, data } = parted(bytes);
    const { format, name = "", picture = "", licence = "", fitted = "0" } = header.__metadata__;
    if (format !== "rill-style-1") return null;
    return { name, picture, licence, fitted: Number(fitted), tile: data.subarray(...header.tile.data_offsets) };
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError || error instanceof RangeError) return null;
    throw error;
  }
}

/** A copy of a style's file under another name, with the checksum that belongs to it. */
export function renamed(bytes, name) {
  const { header, data } = parted(bytes);
  const { crc: _, ...head } = { ...header.__metadata__, name };
  const encoder = new TextEncoder();
  const text = Object.keys(head).sort().map((key) => `${key}=${head[key]}`).join("\n");
  const parts = ["numbers", "tile"].map((key) => data.subarray(...header[key].data_offsets));
  const crc = crc32(joined(encoder.encode(text), ...parts)).toString(16).padStart(8, "0");
  const json = encoder.encode(JSON.stringify({ ...header, __metadata__: { ...head, crc } }));
  const padded = joined(json, new Uint8Array((8 - (json.length % 8)) % 8).fill(32));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setUint32(0, padded.length, true);
  return joined(length, padded, data);
}

/** Whether two files are of one style, whatever their names are. */
export function alike(one, other) {
  const [a, b] = [parted(one).data, parted(other).data];
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

/** A name that a style may have, from what somebody typed or from the name of a file. */
export const fitName = (text) => [...text.replaceAll(/[\p{C}\s]+/gu, " ").trim()].slice(0, LONGEST).join("").trim();

function parted(bytes) {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  return { header: JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))), data: bytes.subarray(8 + length) };
}

function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const core = (share) => (Math.abs(share - 0.5) < 0.05 ? "half of a core" : share > 0.95 ? "one core" : `${percent(share)} of a core`);
const percent = (share) => `${Math.round(100 * share)}%`;

/** { share: of the fit that is done, or null; words; more: what the button beside them does, or "" }. `fit`: the last message, or null. */
export function fitWords(fit, wanted) {
  if (fit === null || fit.state === "stopped") return { share: null, words: fit && !wanted ? "Fitting is stopped; what it has found stays." : "", more: fit && !wanted ? "Go on" : "" };
  const { state, place, done = 0, gain = 0, share = 0, message = "" } = fit;
  if (state === "waiting") return { share: 0, words: `waits for ${place > 1 ? `${place} other pictures` : "another picture"} to be fitted first`, more: "Stop" };
  if (state === "fitting" && !done) return { share: 0, words: "the fit starts: its process loads the model first", more: "Stop" };
  if (state === "fitting") return { share: done, words: `fitting: ${percent(done)}, ${percent(gain)} nearer, uses ${core(share)}`, more: "Stop" };
  if (state === "failed") return { share: null, words: `The fit has failed: ${message}. The best style so far stays.`, more: "" };
  return { share: null, words: `fitted: ${percent(gain)} nearer to the picture`, more: "" };
}

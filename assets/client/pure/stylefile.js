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

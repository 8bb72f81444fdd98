// What a session is given beside its frames, in the wire format of docs/protocol.md: a strength map, picture prompts. Pure.

import { FORMAT, MAGIC, PROTOCOL } from "./protocol.js";

const HEADER = 8; // bytes

function condition(kind, request, format, picture) {
  const bytes = new Uint8Array(HEADER + (picture?.byteLength ?? 0));
  bytes.set([MAGIC, PROTOCOL, kind, format]);
  new DataView(bytes.buffer).setUint32(4, request, true);
  if (picture) bytes.set(new Uint8Array(picture), HEADER);
  return bytes.buffer;
}

/** A strength map as PNG bytes; null removes it. */
export const encodeMask = (request, png) => condition(3, request, png ? FORMAT.png : FORMAT.none, png);

/** The file of a style that prompts may name. */
export const encodeName = (request, file) => condition(7, request, FORMAT.style, file);

/** A picture prompt's or a style file's bytes; FORMAT.none and null remove it. `second`: the one that picture.blend mixes in. */
export const encodePicture = (request, format, picture, second = false) => condition(second ? 6 : 5, request, format, picture);

// What a file is, and how a picture is placed in another one. Pure.

/** Behind transparent pixels. */
export const NEUTRAL = "#808080";

const HEAD = /^(?:\x89(PNG)|(GIF8)|RIFF.{4}(WEBP)|.{4}ftyp(avi)|\xff\xd8\xff|.{4}ftyp(?:hei|mif1)|BM|II\*\0|MM\0\*)/s;
const TYPES = ["png", "gif", "webp", "avif"];

/** The media type of a picture by its first bytes; null: none. */
export function pictureType(bytes) {
  const found = HEAD.exec(String.fromCharCode(...bytes.subarray(0, 16)));
  return found && `image/${TYPES[found.slice(1).findIndex(Boolean)] ?? "jpeg"}`;
}

/** Is it the file of a style? */
export const isStyle = ({ name = "" }) => name.toLowerCase().endsWith(".safetensors");

/** The centred part that has the shape of `toWidth` × `toHeight`. */
export function centreCrop(width, height, toWidth, toHeight) {
  const scale = Math.min(width / toWidth, height / toHeight);
  const [w, h] = [Math.round(toWidth * scale), Math.round(toHeight * scale)];
  return { x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h };
}

/** What goes where in the model's picture: { crop, to }. `fit`: all of it, centred. */
export function placed(width, height, toWidth, toHeight, fit) {
  if (fit && width && height) return { crop: { x: 0, y: 0, width, height }, to: centreCrop(toWidth, toHeight, width, height) };
  return { crop: centreCrop(width, height, toWidth, toHeight), to: { x: 0, y: 0, width: toWidth, height: toHeight } };
}

// The output canvas: pictures are painted in the order of their ids; the newest wins.

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.last = -1;
  }

  /** A new session or size: ids start above `lastId`, the last picture stays. */
  reset(lastId, width, height) {
    this.last = lastId;
    this.session = {}; // a picture that is still decoded is of the one before
    if (this.canvas.width === width && this.canvas.height === height) return;
    const old = this.canvas.width > 1 ? this.canvas.cloneNode() : null;
    old?.getContext("2d").drawImage(this.canvas, 0, 0);
    this.canvas.width = width;
    this.canvas.height = height;
    if (old) this.context.drawImage(old, 0, 0, width, height);
  }

  /** True once the picture is on the canvas, false when a newer one was there first or it cannot be decoded. */
  async show({ id, picture, mime }) {
    const { session } = this;
    const bitmap = await decode(new Blob([picture], { type: mime }));
    if (!bitmap) return false;
    const fresh = id > this.last && session === this.session;
    if (fresh) {
      this.last = id;
      this.context.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    }
    bitmap.close();
    return fresh;
  }
}

/** A bitmap, or null for what is no picture. */
export async function decode(blob) {
  try {
    return await createImageBitmap(blob);
  } catch (error) {
    if (error instanceof DOMException) return null;
    throw error;
  }
}

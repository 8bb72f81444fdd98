// Animated pictures, where the browser has an ImageDecoder.

/** The frames of an animated picture, else null. `type`: its media type, or null. */
export async function animation(file, type) {
  if (!type || !globalThis.ImageDecoder || !(await ImageDecoder.isTypeSupported(type))) return null;
  const decoder = new ImageDecoder({ type, data: await file.arrayBuffer() });
  const track = await decoder.tracks.ready.then(() => decoder.tracks.selectedTrack, () => null);
  if (!track?.animated) return decoder.close() ?? null;
  let [index, due, busy] = [0, 0, false];
  return {
    close: () => decoder.close(),
    /** Draws the next frame once it is due, in a loop. */
    async advance(now, draw) {
      if (busy || now < due) return;
      busy = true;
      const { image } = await decoder.decode({ frameIndex: index++ % track.frameCount }).catch(() => ({}));
      if (image) draw(image);
      due = Math.max(due, now - 100) + (image?.duration ?? 100_000) / 1000;
      image?.close();
      busy = false;
    },
  };
}

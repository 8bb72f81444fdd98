// The model's presets of speed: which one the settings stand for. Pure.

/** The name of the preset whose settings all stand, "" for none. */
export function presetOf(presets, values) {
  const stands = ({ settings }) => Object.entries(settings).every(([key, value]) => values[key] === value);
  return presets.find(stands)?.name ?? "";
}

/** What a preset does, for people. */
export function presetWords({ cost, ssim }) {
  return `${Math.round(100 * cost)}% of the network's work for each frame, likeness to full passes ${ssim.toFixed(3)} on moving clips.`;
}

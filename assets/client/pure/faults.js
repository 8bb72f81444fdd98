// Why a camera, a screen or a file does not come, and what to do. Pure.

/** `where`: { secure, embedded, supported }; `error`: the DOMException, or null. */
export function explain(kind, error, where) {
  const thing = kind === "screen" ? "screen" : "camera";
  if (kind === "clip" || kind === "picture") return `${where.file ?? "This file"} cannot be shown here. Try an MP4 or WebM clip, or a JPEG or PNG picture.`;
  if (!where.secure) {
    return `Browsers give out the ${thing} only over HTTPS or on localhost. Open the page as http://localhost, or start the server with --ssl-certfile and --ssl-keyfile.`;
  }
  if (where.embedded && (!where.supported || denied(error))) {
    return `The page that embeds this one does not pass on the ${thing}. Open Rill in its own tab and try again.`;
  }
  if (!where.supported) {
    return kind === "screen" ? "This browser cannot share a screen (phones cannot). Choose another input." : "This browser offers no camera.";
  }
  if (denied(error)) {
    return kind === "screen"
      ? "No screen was chosen."
      : "The camera is blocked for this page. Allow it with the camera symbol in the address bar, then choose Camera again.";
  }
  return FAULTS[error?.name]?.(thing) ?? `The ${thing} did not start` + (error?.message ? `: ${error.message}` : ".");
}

const FAULTS = {
  NotFoundError: () => "No camera was found. Plug one in, or keep watching the sample clip.",
  OverconstrainedError: () => "That camera is no longer there. Choose another one.",
  NotReadableError: (thing) => `The ${thing} is in use by another program. Close it there and try again.`,
  AbortError: (thing) => `The ${thing} stopped before it gave a picture. Try again.`,
};

function denied(error) {
  return error?.name === "NotAllowedError" || error?.name === "SecurityError";
}

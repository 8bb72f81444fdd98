// A classic script, loaded before Gradio's, whose loading screen (6.31) animates on after it has left the page, at the cost of a look
// through the whole page 60 times a second. Once there are pictures, frames asked for by this name come four times a second.
{
  const REST = 250; // ms
  const frame = window.requestAnimationFrame.bind(window);
  window.rillFrame = frame;
  window.requestAnimationFrame = (callback) => (window.rill?.seenPicture ? setTimeout(frame, REST, callback) : frame(callback));
}

// Gradio takes the address of the server for its own; below a proxy's sub-path its theme and icon would be looked for outside.
{
  let config;
  const root = new URL(".", location.href).href.replace(/\/$/, "");
  Object.defineProperty(window, "gradio_config", { get: () => config, set: (value) => (config = { ...value, root }) });
}

// A classic script, loaded before Gradio's. Gradio's loading screen (6.31) goes on animating after it has left the page, and
// every frame that it asks for makes the browser's main thread look through the whole page, 60 times a second. Once there are
// pictures, frames that are asked for by this name come four times a second; nothing that Gradio animates here is ever seen.
{
  const REST = 250; // ms
  const frame = window.requestAnimationFrame.bind(window);
  window.rillFrame = frame;
  window.requestAnimationFrame = (callback) => (window.rill?.seenPicture ? setTimeout(frame, REST, callback) : frame(callback));
}

// Gradio takes the address that the server was asked at for its own; below a reverse proxy's sub-path that is another one, and its
// theme and icon would be looked for outside. The browser knows the address of the page.
{
  let config;
  const root = new URL(".", location.href).href.replace(/\/$/, "");
  Object.defineProperty(window, "gradio_config", { get: () => config, set: (value) => (config = { ...value, root }) });
}

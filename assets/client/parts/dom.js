/** An element with properties, `dataset`/`aria`/`on` groups and children. */
export function make(tag, properties = {}, ...children) {
  const { dataset = {}, aria = {}, on = {}, style = "", ...rest } = properties;
  const element = Object.assign(document.createElement(tag), tag === "button" ? { type: "button" } : {}, rest);
  Object.assign(element.dataset, dataset);
  if (style) element.style.cssText = style;
  for (const [name, value] of Object.entries(aria)) element.setAttribute(name === "role" ? name : `aria-${name}`, value);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const PATHS = {
  camera: "M3 7h11v10H3zM14 11l7-4v10l-7-4z",
  screen: "M3 5h18v11H3zM8 20h8M12 16v4",
  sample: "M4 5h16v14H4zM10 9l5 3-5 3z",
  clip: "M12 16V5M7 10l5-5 5 5M4 19h16",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4",
  prompt: "M4 6h16M4 12h10M4 18h7",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  snapshot: "M4 8h4l2-3h4l2 3h4v11H4zM12 10.2a3.3 3.3 0 1 0 .01 0",
  full: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  inset: "M3 5h18v14H3zM5 12h7v5H5z",
  share: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  done: "M5 12l5 5 9-10",
  paint: "M4 20c3 0 5-1 5-3.5a2.5 2.5 0 0 0-5 0c0 1.5-.5 2.5-1.5 3M9 14L19 4l1 1-10 10",
  eraser: "M9 19h11M5 15L15 5l5 5-9 9H9z",
  undo: "M8 5L4 9l4 4M4 9h9a6 6 0 0 1 0 12h-3",
  bin: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  beside: "M3 6h8v12H3zM13 6h8v12h-8z",
  wipe: "M3 5h18v14H3zM12 3v18M9 10l-2 2 2 2M15 10l2 2-2 2",
  alone: "M3 5h18v14H3z",
  save: "M12 5v11M7 11l5 5 5-5M4 20h16",
  record: "M12 6a6 6 0 1 0 .01 0z",
  stop: "M7 7h10v10H7z",
  help: "M9 9a3 3 0 1 1 4 2.8c-.7.3-1 .8-1 1.7M12 17v.5",
  loop: "M4 12a6 6 0 0 1 6-6h8M15 3l3 3-3 3M20 12a6 6 0 0 1-6 6H6M9 21l-3-3 3-3",
  dice: "M4 4h16v16H4zM8.5 8.5v.1M15.5 15.5v.1M12 12v.1M15.5 8.5v.1M8.5 15.5v.1",
  words: "M4 5h7v14H4zM13 5h7v14h-7zM6 9h3M15 9h3",
  star: "M12 4l2.5 5.2 5.6.8-4 4 .9 5.6-5-2.7-5 2.7.9-5.6-4-4 5.6-.8z",
  engine: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  turn: "M4 8h4l2-3h4l2 3h4v11H4zM9 14a3 3 0 0 1 5.5-1.6M15 13a3 3 0 0 1-5.5 1.6",
  blend: "M9 7a5 5 0 1 0 .01 0zM15 7a5 5 0 1 0 .01 0z",
  recent: "M12 7v5l3 2M12 4a8 8 0 1 0 .01 0z",
};

/** A line icon; decorative, the button carries the label. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("rill-icon");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon. */
export function iconButton(name, label, click) {
  const button = make("button", { className: "rill-tool", title: label, aria: { label }, onclick: click }, icon(name));
  button.paint = (next, text) => {
    button.replaceChildren(icon(next));
    button.title = text;
    button.setAttribute("aria-label", text);
  };
  return button;
}

/** Sets text only when it differs: no layout work otherwise. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or takes away one of Gradio's controls. */
export const offer = (id, shown) => document.getElementById(id)?.classList.toggle("rill-absent", !shown);

export const press = (button, pressed) => button.setAttribute("aria-pressed", String(pressed));

export const plain = (textContent, onclick, more = {}) => make("button", { className: "rill-plain", textContent, onclick, ...more });

export const link = (textContent, onclick, more = {}) => plain(textContent, onclick, { className: "rill-link", ...more });

/** The options of a select, from [value, words] pairs. */
export const options = (pairs) => pairs.map(([value, textContent]) => make("option", { value, textContent }));

/** A select with its label before it; `change()` when another option is chosen. */
export function choice(label, change, pairs = []) {
  const select = make("select", { className: "rill-select", onchange: change }, ...options(pairs));
  return { select, line: make("label", { className: "rill-choice" }, make("span", { textContent: label }), select) };
}

/** Hands a file to the browser, as a download. */
export function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** A hidden input that calls `take(file)`; its `click()` opens the browser's dialogue. */
export function fileInput(label, take, more = {}) {
  const input = make("input", { type: "file", hidden: true, aria: { label }, ...more });
  input.addEventListener("change", () => {
    if (input.files[0]) take(input.files[0]);
    input.value = ""; // the same file may be chosen again
  });
  return input;
}

// What the first view does not need: modules and style sheets that come on their first use.

const AWAY = "This part of the page could not be loaded, because the server does not answer. Try again when it does.";

/** What `load()` resolves with; null where the server is away, which a notice says. The next use tries again. */
export async function later(studio, load) {
  try {
    return await load();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // what import() and fetch() throw without an answer
    studio.notice(AWAY, true);
    return null;
  }
}

/** A function that runs works (async functions) in the order in which it gets them, and resolves with what each gives. */
export function inOrder() {
  let last = Promise.resolve();
  return (work) => (last = last.then(work, work));
}

/** Adds a style sheet of this folder behind those of the page; resolves once it counts. */
export function sheet(name) {
  const href = new URL(`../${name}.css`, import.meta.url).href;
  if (document.querySelector(`link[href="${href}"]`)) return null;
  return new Promise((resolve, reject) => {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href, onload: () => resolve(null) });
    link.onerror = () => {
      link.remove();
      reject(new TypeError(`${name}.css did not come`));
    };
    document.head.append(link);
  });
}

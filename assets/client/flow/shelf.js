// Styles that this browser keeps, in IndexedDB: { id, bytes }. A frame whose storage is blocked keeps them until the page goes.

const memory = new Map();

/** Every kept style, oldest first. */
export const shelved = async () => (await ask("readonly", (store) => store.getAll())) ?? [...memory.values()];

/** Keeps a style; another one with the same `id` is replaced. */
export async function shelve(item) {
  if ((await ask("readwrite", (store) => store.put(item))) === null) memory.set(item.id, item);
}

export async function unshelve(id) {
  memory.delete(id);
  await ask("readwrite", (store) => store.delete(id));
}

/** The result of a request to the store; null where there is none to be had. */
async function ask(mode, request) {
  try {
    const database = await settled(Object.assign(indexedDB.open("rill", 1), { onupgradeneeded: ({ target }) => target.result.createObjectStore("styles", { keyPath: "id" }) }));
    try {
      return await settled(request(database.transaction("styles", mode).objectStore("styles")));
    } finally {
      database.close();
    }
  } catch {
    return null; // blocked, full or broken: `memory` has it
  }
}

const settled = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: () => reject(request.error) }));

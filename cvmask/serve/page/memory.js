// What outlives a reload of this tab: small marks, and the files of results for half an hour.

const KEPT_MS = 30 * 60 * 1000;
const STORE = "results";

// A browser may forbid to keep anything: the page works without.
const attempt = (what) => { try { return what(); } catch { return null; } };

export const recall = (name) => attempt(() => localStorage.getItem(`cvmask.${name}`));
export const remember = (name, value) => attempt(() => localStorage.setItem(`cvmask.${name}`, value));

// Another tab has results of its own.
function tabName() {
  const name = attempt(() => sessionStorage.getItem("cvmask.tab")) || Math.random().toString(36).slice(2);
  attempt(() => sessionStorage.setItem("cvmask.tab", name));
  return name;
}

const TAB = tabName();

let base = null;

function opened() {
  base ??= new Promise((done, fail) => {
    const asked = indexedDB.open("cvmask", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(STORE, { keyPath: "id" });
    asked.onsuccess = () => done(asked.result);
    asked.onerror = () => fail(asked.error);
  });
  return base;
}

async function ask(mode, what) {
  try {
    const store = (await opened()).transaction(STORE, mode).objectStore(STORE);
    const asked = what(store);
    return await new Promise((done, fail) => { asked.onsuccess = () => done(asked.result); asked.onerror = () => fail(asked.error); });
  } catch {
    return null;
  }
}

// record: {id, ...}, whatever a browser can store, files too.
export const keep = (record) => ask("readwrite", (store) => store.put({ at: Date.now(), ...record, tab: TAB }));
export const forget = (id) => ask("readwrite", (store) => store.delete(id));

// What this tab has kept, the oldest first; what is too old, of any tab, is removed.
export async function kept() {
  const all = (await ask("readonly", (store) => store.getAll())) || [];
  const fresh = (record) => Date.now() - record.at < KEPT_MS;
  for (const record of all) if (!fresh(record)) forget(record.id);
  return all.filter((record) => fresh(record) && record.tab === TAB).sort((a, b) => a.at - b.at);
}

/** JSON in a Storage that may be full, forbidden or hold what an older page wrote. */

/** @param {Storage} storage @param {string} name @param {unknown} fallback */
export function load(storage, name, fallback) {
  try {
    const text = storage.getItem(`playground.${name}`);
    return text === null ? fallback : JSON.parse(text);
  } catch {
    return fallback;
  }
}

/** Returns whether it could be kept. @param {Storage} storage @param {string} name @param {unknown} value */
export function save(storage, name, value) {
  try {
    storage.setItem(`playground.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** @param {Storage} storage @param {string} name */
export function forget(storage, name) {
  try {
    storage.removeItem(`playground.${name}`);
  } catch {
    // What cannot be written was never kept.
  }
}

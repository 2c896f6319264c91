/** Small helpers over the document. Nothing here takes HTML: text is set as text. */

/** @param {string} id @returns {any} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** A copy of the first element of a template. @param {string} id @returns {any} */
export function fromTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

/** @param {string} tag @param {string} className @param {string} text */
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** @param {string} text @param {() => void} act @param {string} className */
export function button(text, act, className = "button small") {
  const made = element("button", className, text);
  made.setAttribute("type", "button");
  made.addEventListener("click", act);
  return made;
}

/** Lets a screen reader speak a text once. @param {string} text @param {boolean} urgent */
export function announce(text, urgent = false) {
  const region = byId(urgent ? "alert" : "status");
  region.textContent = "";
  // The change of an emptied region is what screen readers speak, also when the words are the same as before.
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

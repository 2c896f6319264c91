import { announce } from "./dom.js";

/** Copies, also where the page is not on https or localhost and the clipboard's own interface is missing. */
async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not permitted: the old way may be.
    }
  }
  const box = document.createElement("textarea");
  box.value = text;
  box.className = "visually-hidden";
  const before = document.activeElement;
  // Within an open dialog nothing outside can be selected.
  (document.querySelector("dialog:modal") ?? document.body).append(box);
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  if (before instanceof HTMLElement) before.focus({ preventScroll: true });
  return copied;
}

/** @param {HTMLElement} button @param {() => string} text @param {string} name what is copied, for the button's name */
export function copyOnClick(button, text, name) {
  const use = button.querySelector("use");
  button.setAttribute("aria-label", name);
  button.addEventListener("click", async () => {
    const copied = await copy(text());
    announce(copied ? "Copied." : "Copying failed: select the text by hand.");
    if (!copied) return;
    button.dataset.copied = "";
    use?.setAttribute("href", "#i-done");
    setTimeout(() => {
      delete button.dataset.copied;
      use?.setAttribute("href", "#i-copy");
    }, 1600);
  });
}

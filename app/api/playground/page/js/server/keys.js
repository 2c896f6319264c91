import { byId } from "../browser/dom.js";
import { forget, load, save } from "../browser/storage.js";

/** The API key: asked for when the server wants one, and kept in this tab alone. */
export class Keys {
  constructor() {
    this.dialog = byId("key-dialog");
    this.input = byId("key");
    /** @type {string|null} */
    this.key = load(sessionStorage, "key", null);
    /** @type {((key: string|null) => void)|null} */
    this.answered = null;
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.finish(this.input.value.trim() || null);
    });
    byId("cancel-key").addEventListener("click", () => this.finish(null));
    this.dialog.addEventListener("cancel", () => this.finish(null));
    byId("change-key").addEventListener("click", () =>
      this.ask("The key stays in this tab and is gone when you close it."),
    );
    byId("forget-key").addEventListener("click", () => this.keep(null));
    this.show();
  }

  /** Opens the dialog. @param {string} reason @returns {Promise<string|null>} null: the reader gave up */
  ask(reason) {
    byId("key-reason").textContent = reason;
    this.input.value = "";
    this.dialog.showModal();
    return new Promise((resolve) => {
      this.answered = resolve;
    });
  }

  finish(key) {
    this.dialog.close();
    this.input.value = "";
    if (key) this.keep(key);
    this.answered?.(key);
    this.answered = null;
  }

  keep(key) {
    this.key = key;
    if (key) save(sessionStorage, "key", key);
    else forget(sessionStorage, "key");
    this.show();
  }

  show() {
    byId("key-state").textContent = this.key ? "set for this tab" : "none";
    byId("change-key").textContent = this.key ? "Change it" : "Enter a key";
    byId("forget-key").hidden = !this.key;
  }
}

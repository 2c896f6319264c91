import { announce, byId } from "../browser/dom.js";

/** A phone's keyboard has no Shift+Enter: there Enter starts a line, and the button sends. */
const touch = matchMedia("(pointer: coarse)");

/** The question's field and its button, which sends or stops. */
export class Composer {
  /** @param {{send: (question: string) => void, stop: () => void, isBusy: () => boolean, editLast: () => void, cancelEdit: () => void}} acts */
  constructor(acts) {
    this.acts = acts;
    this.field = byId("question");
    this.send = byId("send");
    this.early = byId("early-hint");
    this.field.addEventListener("input", () => this.show());
    this.field.addEventListener("keydown", (event) => this.key(event));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (acts.isBusy()) acts.stop();
      else this.submit();
    });
    byId("cancel-edit").addEventListener("click", () => this.acts.cancelEdit());
    this.show();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    // While an input method composes a character, Enter picks it.
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Enter" && !event.shiftKey && (!touch.matches || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (this.acts.isBusy()) this.tooEarly();
      else this.submit();
    }
    if (event.key === "ArrowUp" && this.field.value === "" && !this.acts.isBusy()) {
      event.preventDefault();
      this.acts.editLast();
    }
  }

  submit() {
    const question = this.field.value.trim();
    if (!question) return;
    this.set("");
    this.acts.send(question);
  }

  /** One answer at a time: an Enter that cannot send says so, and the question stays in the field. */
  tooEarly() {
    if (!this.field.value.trim()) return;
    byId("composer-hint").hidden = true;
    this.early.hidden = false;
    announce(this.early.textContent);
  }

  /** @param {string} text */
  set(text) {
    this.field.value = text;
    this.show();
  }

  focus() {
    this.field.focus();
  }

  /** @param {boolean} on */
  setEditing(on) {
    byId("editing").hidden = !on;
  }

  show() {
    const busy = this.acts.isBusy();
    this.send.dataset.mode = busy ? "stop" : "send";
    this.send.setAttribute("aria-label", busy ? "Stop the answer" : "Send");
    this.send.disabled = !busy && !this.field.value.trim();
    this.early.hidden = true;
    byId("composer-hint").hidden = false;
    if (CSS.supports("field-sizing", "content")) return;
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight}px`;
  }
}

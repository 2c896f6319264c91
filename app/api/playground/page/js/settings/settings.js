import { byId, fromTemplate } from "../browser/dom.js";
import { load, save } from "../browser/storage.js";
import { PARAMETERS, readNumber } from "./parameters.js";

const MOST_STOPS = 16;

/** The fields of the settings panel, kept from visit to visit as they were typed. */
export class Settings {
  constructor() {
    this.fields = new Map([
      ["system", byId("system")],
      ["stop", byId("stop-strings")],
    ]);
    for (const parameter of PARAMETERS) this.fields.set(parameter.name, this.build(parameter));
    const kept = load(localStorage, "settings", {});
    for (const [name, field] of this.fields) {
      if (typeof kept?.[name] === "string") field.value = kept[name];
      field.addEventListener("input", () => this.keep());
    }
    byId("reset-settings").addEventListener("click", () => this.reset());
    this.check();
  }

  build(parameter) {
    const field = fromTemplate("t-parameter");
    const [label, input, error] = field.children;
    input.id = `parameter-${parameter.name}`;
    input.name = parameter.name;
    if (parameter.integer) input.inputMode = "numeric";
    if (parameter.none) input.placeholder = parameter.none;
    label.htmlFor = input.id;
    label.textContent = parameter.label;
    error.id = `${input.id}-error`;
    byId("parameters").append(field);
    return input;
  }

  /** What goes into the request's body; a field with a problem does not. */
  body() {
    const body = {};
    for (const parameter of PARAMETERS) {
      const { value } = readNumber(parameter, this.fields.get(parameter.name).value);
      if (value !== undefined) body[parameter.name] = value;
    }
    const stop = this.fields.get("stop").value.split("\n").filter(Boolean).slice(0, MOST_STOPS);
    if (stop.length) body.stop = stop;
    return body;
  }

  get system() {
    return this.fields.get("system").value.trim();
  }

  reset() {
    for (const field of this.fields.values()) field.value = "";
    this.keep();
  }

  keep() {
    save(localStorage, "settings", Object.fromEntries([...this.fields].map(([name, field]) => [name, field.value])));
    this.check();
  }

  /** Marks what cannot be sent, and on the button that something is set. */
  check() {
    for (const parameter of PARAMETERS) {
      const input = this.fields.get(parameter.name);
      const error = byId(`${input.id}-error`);
      const { problem } = readNumber(parameter, input.value);
      error.textContent = problem ?? "";
      error.hidden = !problem;
      if (problem) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", error.id);
      } else {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-describedby");
      }
    }
    byId("open-settings").toggleAttribute(
      "data-changed",
      [...this.fields.values()].some((field) => field.value),
    );
  }
}

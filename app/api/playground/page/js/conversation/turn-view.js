import { copyOnClick } from "../browser/copy.js";
import { button, element, fromTemplate } from "../browser/dom.js";
import { Prose } from "../markup/prose.js";
import { details, fill, headline } from "./figures.js";

const SHORTEST_MS = 50;

/** One question and its answer on the page. */
export class TurnView {
  /** @param {any} turn @param {any} asking @param {{edit: () => void, retry: () => void, curl: () => void}} acts */
  constructor(turn, asking, acts) {
    this.turn = turn;
    this.asking = asking;
    this.acts = acts;
    this.root = fromTemplate("t-turn");
    this.prose = new Prose(this.part(".prose"));
    this.part(".question-text").textContent = turn.question;
    for (const name of ["edit", "retry", "curl"])
      this.part(`[data-do=${name}]`).addEventListener("click", acts[name]);
    copyOnClick(this.part("[data-do=copy]"), () => turn.answer.text, "Copy answer");
    this.rendered = null;
    this.noticed = "";
    this.nextAt = 0;
    this.timer = 0;
  }

  part(selector) {
    return this.root.querySelector(selector);
  }

  /** Shows the turn, soon: a long answer is rendered less often the longer that takes. */
  update() {
    if (this.timer) return;
    this.timer = setTimeout(
      () => {
        this.timer = 0;
        this.render();
      },
      Math.max(0, this.nextAt - performance.now()),
    );
  }

  render() {
    const begun = performance.now();
    const { answer } = this.turn;
    const over = ["done", "stopped", "failed"].includes(answer.state);
    this.root.dataset.state = answer.state;
    this.part(".answer").setAttribute("aria-busy", String(!over));
    if (this.rendered !== answer.text) {
      this.prose.show(answer.text);
      this.rendered = answer.text;
    }
    this.part(".thinking").hidden = answer.state !== "waiting";
    this.part(".thinking-text").textContent = "Waiting for the first token";
    this.showNotice(answer);
    this.part(".foot").hidden = !(answer.text || over);
    const line = headline(answer);
    const pairs = over ? details(answer) : [];
    this.part(".figures").hidden = !line && !pairs.length;
    this.part(".figures summary").textContent = line || "Details";
    fill(this.part(".figures dl"), pairs);
    const cost = performance.now() - begun;
    this.nextAt = performance.now() + Math.max(SHORTEST_MS, 3 * cost);
    this.root.dispatchEvent(new Event("grown", { bubbles: true }));
  }

  showNotice(answer) {
    const notice = this.part(".notice");
    const text = this.noticeText(answer);
    notice.hidden = !text;
    notice.dataset.kind = answer.state;
    this.part(".notice-text").textContent = text;
    const kind = text ? `${answer.state} ${this.asking.hold?.why ?? ""}` : "";
    if (kind === this.noticed) return; // the buttons stay: one of them may have the focus
    this.noticed = kind;
    this.part(".notice-actions").replaceChildren(...this.noticeActions(answer));
  }

  noticeText({ state, problem, reason }) {
    if (state === "failed") return problem;
    if (state === "stopped") return "You stopped this answer.";
    if (state === "done" && reason === "length") return "The answer reached its token limit and ends here.";
    const { hold, autoRetry } = this.asking;
    if (state !== "held" || !hold) return "";
    if (hold.why === "offline") return "You are offline. The question goes out when the connection is back.";
    if (hold.until === null) return "The question goes out as soon as the model is ready.";
    const left = Math.max(0, Math.ceil((hold.until - performance.now()) / 1000));
    const why = hold.why === "full" ? "The queue is full." : hold.why;
    if (autoRetry) return `${why} Trying again in ${left} s.`;
    return left ? `${why} Worth trying again in ${left} s.` : `${why} You can try again now.`;
  }

  noticeActions({ state }) {
    if (state === "failed") return [button("Try again", this.acts.retry)];
    if (state !== "held") return [];
    const giveUp = button("Give up", () => this.asking.stop());
    if (this.asking.hold?.until == null) return [giveUp];
    const label = element("label", "check");
    const box = /** @type {HTMLInputElement} */ (element("input"));
    box.type = "checkbox";
    box.checked = this.asking.autoRetry;
    box.addEventListener("change", () => this.asking.setAutoRetry(box.checked));
    label.append(box, "Try again by itself");
    return [button("Try now", () => this.asking.tryNow()), giveUp, label];
  }
}

import { load, save } from "../browser/storage.js";
import { ask, Cut, Refused } from "../server/api.js";
import { requestBody } from "../server/request.js";
import { newAnswer } from "./conversation.js";
import { Meter } from "./meter.js";

/** Asks one question at a time, waits where the server says so, and writes into the turn what happens. */
export class Asking {
  /** @param {any} parts conversation, settings, keys, server, and `changed(turn)`, called after each change */
  constructor({ conversation, settings, keys, server, changed }) {
    Object.assign(this, { conversation, settings, keys, server, changed });
    /** @type {AbortController|null} */
    this.running = null;
    /** Why and until when the question is held back. @type {{why: string, until: number|null}|null} */
    this.hold = null;
    this.goOn = () => {};
    this.autoRetry = load(localStorage, "autoRetry", true) !== false;
    /** A page that is left breaks its own connection; conversation.js says so when it comes back. */
    this.leaving = false;
    addEventListener("beforeunload", () => {
      this.leaving = true;
      setTimeout(() => (this.leaving = false), 1000); // it stayed after all
    });
  }

  get busy() {
    return this.running !== null;
  }

  stop() {
    this.running?.abort();
    this.goOn();
  }

  tryNow() {
    this.goOn();
  }

  /** @param {boolean} on */
  setAutoRetry(on) {
    this.autoRetry = on;
    save(localStorage, "autoRetry", on);
  }

  /** What a question after these turns is asked with. @param {any[]} earlier @param {string} question */
  body(earlier, question) {
    return requestBody(earlier, question, this.settings, this.server.model);
  }

  /** @param {any} turn */
  bodyOf(turn) {
    return this.body(this.conversation.before(turn), turn.question);
  }

  /** Answers a turn, from the beginning. Settles when the answer has ended, however it did. @param {any} turn */
  async run(turn) {
    this.running = new AbortController();
    const { signal } = this.running;
    turn.answer = newAnswer();
    this.changed(turn);
    try {
      while (!(await this.attempt(turn, signal)));
    } finally {
      this.running = null;
      this.hold = null;
      this.conversation.save();
      this.changed(turn);
    }
  }

  /** Returns whether this was the last attempt. */
  async attempt(turn, signal) {
    try {
      await this.server.known(signal);
      if (["loading", "unavailable", "offline"].includes(this.server.state)) await this.untilReady(turn, signal);
      signal.throwIfAborted();
      await this.stream(turn, signal);
      turn.answer.state = "done";
    } catch (error) {
      if (!signal.aborted) return await this.goesOnAfter(error, turn, signal);
      turn.answer.state = "stopped";
    }
    return true;
  }

  async stream(turn, signal) {
    const { answer } = turn;
    const meter = new Meter();
    answer.state = "waiting";
    this.changed(turn);
    for await (const event of ask(this.bodyOf(turn), this.keys.key, signal)) {
      if ("headers" in event) answer.requestId = event.headers.get("x-request-id") ?? "";
      if ("text" in event) {
        meter.piece();
        answer.text += event.text;
        answer.state = "streaming";
        answer.measured = meter.snapshot();
        this.conversation.saveSometimes();
      }
      if ("reason" in event) answer.reason = event.reason;
      if ("usage" in event)
        Object.assign(answer, { usage: event.usage ?? answer.usage, timings: event.timings ?? answer.timings });
      this.changed(turn);
    }
  }

  /** Returns false when the question is to be asked again. */
  async goesOnAfter(error, turn, signal) {
    if (this.leaving && error instanceof Cut) return true;
    if (error instanceof Refused && error.status === 401) {
      if (await this.askForKey(error)) return false;
    } else if (error instanceof Refused && (error.status === 429 || error.status === 503)) {
      return await this.stopsInsteadOfWaiting(error, turn, signal);
    }
    turn.answer.state = "failed";
    turn.answer.problem = problem(error, turn.answer.text !== "");
    if (error instanceof Cut) this.server.watch();
    return true;
  }

  askForKey(error) {
    const refused = `The server did not accept the key that this tab has: ${error.message}`;
    return this.keys.ask(this.keys.key ? refused : "It stays in this tab and is gone when you close it.");
  }

  /** Waits until the server takes requests again; returns true when the reader stops the question meanwhile. */
  async stopsInsteadOfWaiting(refused, turn, signal) {
    if (refused.status === 503) this.server.watch();
    await this.pause(turn, refused, signal);
    if (signal.aborted) turn.answer.state = "stopped";
    return signal.aborted;
  }

  async untilReady(turn, signal) {
    this.held(turn, { why: this.server.state, until: null });
    await this.server.ready(signal);
  }

  /** Ends when the reader asks for it or stops the answer; with automatic retries also when Retry-After has passed. */
  async pause(turn, { status, message, retryAfter }, signal) {
    const until = performance.now() + (retryAfter ?? 5) * 1000;
    this.held(turn, { why: status === 429 ? "full" : message, until });
    await new Promise((resolve) => {
      const tick = setInterval(() => {
        if (this.autoRetry && performance.now() >= until) this.goOn();
        else this.changed(turn);
      }, 250);
      this.goOn = () => {
        clearInterval(tick);
        this.goOn = () => {};
        resolve(undefined);
      };
      if (signal.aborted) this.goOn();
    });
    this.hold = null;
  }

  held(turn, hold) {
    this.hold = hold;
    turn.answer.state = "held";
    this.changed(turn);
  }
}

/** @param {unknown} error @param {boolean} partial whether some of the answer arrived */
function problem(error, partial) {
  const kept = partial ? " What arrived is kept." : "";
  if (error instanceof Refused) return error.message + kept;
  if (!(error instanceof Cut)) throw error;
  if (partial) return `The connection ended before the answer did.${kept}`;
  return navigator.onLine
    ? "The server cannot be reached. It may be starting again."
    : "You are offline. Try again when the connection is back.";
}

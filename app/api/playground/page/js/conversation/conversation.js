import { forget, load, save } from "../browser/storage.js";

/**
 * @typedef {{text: string, state: "waiting"|"held"|"streaming"|"done"|"stopped"|"failed", problem: string,
 *   reason: string, requestId: string, measured: any, usage: any, timings: any}} Answer
 * @typedef {{question: string, answer: Answer}} Turn
 */

const STORED_SECONDS = 1;

/** @returns {Answer} */
export function newAnswer() {
  return {
    text: "",
    state: "waiting",
    problem: "",
    reason: "",
    requestId: "",
    measured: null,
    usage: null,
    timings: null,
  };
}

/** The turns, kept in the tab: they survive a reload, and each tab has its own. */
export class Conversation {
  constructor() {
    /** @type {Turn[]} */
    this.turns = restored(load(sessionStorage, "conversation", []));
    this.saved = 0;
    addEventListener("pagehide", () => this.save());
  }

  /** @param {string} question */
  add(question) {
    const turn = { question, answer: newAnswer() };
    this.turns.push(turn);
    this.save();
    return turn;
  }

  get last() {
    return this.turns.at(-1);
  }

  /** The turns that lead to this one. @param {Turn} turn */
  before(turn) {
    return this.turns.slice(0, this.turns.indexOf(turn));
  }

  dropLast() {
    this.turns.pop();
    this.save();
  }

  clear() {
    this.turns = [];
    forget(sessionStorage, "conversation");
  }

  save() {
    this.saved = performance.now();
    if (this.turns.length) save(sessionStorage, "conversation", this.turns);
  }

  /** While an answer grows: now and then. */
  saveSometimes() {
    if (performance.now() - this.saved > STORED_SECONDS * 1000) this.save();
  }
}

/** What an older page or somebody else wrote may have any shape. @param {unknown} kept @returns {Turn[]} */
function restored(kept) {
  if (!Array.isArray(kept)) return [];
  const turns = kept.filter((turn) => typeof turn?.question === "string" && typeof turn?.answer?.text === "string");
  return turns.map(({ question, answer }) => {
    const turn = { question, answer: { ...newAnswer(), ...answer } };
    if (["waiting", "held", "streaming"].includes(turn.answer.state)) {
      turn.answer.state = "failed";
      turn.answer.problem = "The page was reloaded before the answer was complete.";
    }
    return turn;
  });
}

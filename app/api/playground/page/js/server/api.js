import { eventData } from "./sse.js";

/** Relative to the page, so that a proxy may put the whole server under a path. */
export const CHAT_URL = new URL("v1/chat/completions", document.baseURI).href;

/** What the server said instead of an answer. */
export class Refused extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {number|null} retryAfter seconds */
  constructor(status, code, message, retryAfter) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** No connection, or one that ended before the answer did. */
export class Cut extends Error {}

/**
 * Asks, and yields what happens: {headers}, {text}, {reason}, {usage, timings}.
 * Throws Refused before or within the answer, Cut, and what `signal` was aborted with.
 * @param {object} body @param {string|null} key @param {AbortSignal} signal
 */
export async function* ask(body, key, signal) {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  if (key) headers.authorization = `Bearer ${key}`;
  const init = { method: "POST", headers, body: JSON.stringify(body), signal, cache: "no-store" };
  const response = await fetch(CHAT_URL, /** @type {RequestInit} */ (init)).catch((error) => {
    signal.throwIfAborted();
    throw new Cut(error.message);
  });
  if (!response.ok || !response.body) throw await refusal(response);
  yield { headers: response.headers };
  let finished = false;
  try {
    for await (const data of eventData(response.body)) {
      if (data === "[DONE]") return;
      for (const happened of read(JSON.parse(data))) {
        finished ||= "reason" in happened;
        yield happened;
      }
    }
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Refused) throw error;
    throw new Cut(String(error));
  }
  if (!finished) throw new Cut("the stream ended early");
}

/** @param {any} chunk */
function* read(chunk) {
  const choice = chunk.choices?.[0];
  const error = chunk.error ?? choice?.error; // of a choice: what ended it early
  if (error) throw new Refused(0, String(error.code), String(error.message), null);
  if (choice?.delta?.content) yield { text: choice.delta.content };
  if (choice?.finish_reason) yield { reason: choice.finish_reason };
  if (chunk.usage || chunk.timings) yield { usage: chunk.usage ?? null, timings: chunk.timings ?? null };
}

/** The error of the app or of nginx: both have error.code and error.message. @param {Response} response */
async function refusal(response) {
  const said = await response.json().catch(() => null);
  const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
  return new Refused(
    response.status,
    String(said?.error?.code ?? "unknown"),
    String(said?.error?.message ?? `The server answered ${response.status} and no more.`),
    Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 1), 3600),
  );
}

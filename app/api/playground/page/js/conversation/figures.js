import { element } from "../browser/dom.js";

const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`);
const number = (value) => typeof value === "number" && Number.isFinite(value);
const count = (value, what) => `${value} ${what}${value === 1 ? "" : "s"}`;

/** The line below an answer: live from what the page measured, at the end with the server's exact counts. */
export function headline({ measured, usage, timings }) {
  const tokens = usage?.completion_tokens;
  const rate = number(timings?.tokens_per_second) ? timings.tokens_per_second : measured?.rate;
  return [
    number(measured?.firstToken) && `first token ${seconds(measured.firstToken)}`,
    number(rate) && `${rate.toFixed(1)} tokens/s`,
    number(tokens) ? count(tokens, "token") : measured?.pieces > 0 && `about ${count(measured.pieces, "token")}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

/** Everything that is known, as pairs of a name and a value. */
export function details({ usage, timings, requestId, reason }) {
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  return [
    [
      "Prompt",
      number(usage?.prompt_tokens) && count(usage.prompt_tokens, "token") + (cached ? `, ${cached} cached` : ""),
    ],
    ["Answer", number(usage?.completion_tokens) && count(usage.completion_tokens, "token")],
    ["Waited", number(timings?.queue_seconds) && seconds(timings.queue_seconds)],
    ["Prompt computed in", number(timings?.prefill_seconds) && seconds(timings.prefill_seconds)],
    ["Answer computed in", number(timings?.decode_seconds) && seconds(timings.decode_seconds)],
    ["Ended by", reason],
    ["Request id", requestId],
  ].filter(([, value]) => value);
}

/** @param {HTMLElement} list a <dl> @param {string[][]} pairs */
export function fill(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]));
}

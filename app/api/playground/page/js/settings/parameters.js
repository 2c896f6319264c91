/** What may be set for an answer. An empty field is not sent: `none` says what counts then, else the model's own. */
export const PARAMETERS = [
  { name: "temperature", label: "Temperature" },
  { name: "top_p", label: "Top p" },
  { name: "top_k", label: "Top k", integer: true },
  { name: "min_p", label: "Min p", none: "Off" },
  { name: "max_completion_tokens", label: "Max tokens", integer: true, none: "As many as fit" },
  { name: "seed", label: "Seed", integer: true, none: "Random" },
  { name: "repetition_penalty", label: "Repetition penalty", none: "None" },
  { name: "presence_penalty", label: "Presence penalty", none: "None" },
  { name: "frequency_penalty", label: "Frequency penalty", none: "None" },
];

/**
 * The number that a field's text means. Which numbers are allowed is the server's to say.
 * @param {{integer?: boolean}} parameter @param {string} text
 * @returns {{value?: number, problem?: string}} neither for an empty field
 */
export function readNumber(parameter, text) {
  const trimmed = text.trim();
  if (trimmed === "") return {};
  const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed) ? Number(trimmed) : Number.NaN;
  if (!Number.isFinite(value)) return { problem: "This is not a number." };
  if (parameter.integer && !Number.isSafeInteger(value)) return { problem: "This must be a whole number." };
  return { value };
}

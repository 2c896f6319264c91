/** The request's body for one more question. */

/**
 * @param {{question: string, answer: {text: string}}[]} earlier turns; those without an answer are left out
 * @param {string} question
 * @param {{system: string, body: () => object}} settings
 * @param {string|null} model
 */
export function requestBody(earlier, question, settings, model) {
  const messages = settings.system ? [{ role: "system", content: settings.system }] : [];
  for (const turn of earlier) {
    if (!turn.answer.text) continue;
    messages.push({ role: "user", content: turn.question }, { role: "assistant", content: turn.answer.text });
  }
  messages.push({ role: "user", content: question });
  return {
    ...(model ? { model } : {}),
    messages,
    stream: true,
    stream_options: { include_usage: true },
    ...settings.body(),
  };
}

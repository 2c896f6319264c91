import hljs from "../../../vendor/highlight.js";

/** Longer code is shown plain: colouring it anew with each piece would hold up the page. */
const LONGEST = 30_000;
const NAME = /^[a-z0-9][\w+#.-]{0,29}$/i;

/**
 * @param {string} code @param {string} language as an answer names it
 * @returns {{html: string|null, name: string}} null: nothing to colour; the name is safe in a class
 */
export function highlighted(code, language) {
  if (!NAME.test(language)) return { html: null, name: "" };
  const name = language.toLowerCase();
  if (code.length > LONGEST || !hljs.getLanguage(name)) return { html: null, name };
  try {
    return { html: hljs.highlight(code, { language: name, ignoreIllegals: true }).value, name };
  } catch {
    return { html: null, name };
  }
}

import { byId, element } from "../browser/dom.js";
import { highlighted } from "../markup/highlight.js";
import { frame } from "../markup/prose.js";
import { sanitize } from "../markup/sanitize.js";
import { CHAT_URL } from "../server/api.js";

/** Within single quotes a shell takes everything as it is, but for the quote itself. */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * A line for a POSIX shell that sends exactly this request. The key is never in it: the shell's own variable is.
 * @param {object} body @param {boolean} needsKey
 */
export function curlCommand(body, needsKey) {
  const parts = [
    `curl -N ${quoted(CHAT_URL)}`,
    "-H 'Content-Type: application/json'",
    needsKey && '-H "Authorization: Bearer $API_KEY"',
    `-d ${quoted(JSON.stringify(body, null, 2))}`,
  ];
  return parts.filter(Boolean).join(" \\\n  ");
}

/** @param {object} body @param {boolean} needsKey */
export function showCurl(body, needsKey) {
  const command = curlCommand(body, needsKey);
  const pre = element("pre");
  const code = element("code", "hljs language-bash");
  const { html } = highlighted(command, "bash");
  code.append(html === null ? command : sanitize(html));
  pre.append(code);
  byId("curl-code").replaceChildren(pre);
  frame(pre);
  byId("curl-hint").textContent = needsKey
    ? "For a POSIX shell. Put your key into its variable API_KEY first: it is not shown here."
    : "For a POSIX shell.";
  byId("curl-dialog").showModal();
}

export function startCurl() {
  byId("close-curl").addEventListener("click", () => byId("curl-dialog").close());
}

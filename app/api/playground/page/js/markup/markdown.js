import MarkdownIt from "../../../vendor/markdown-it.js";
import { highlighted } from "./highlight.js";

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: false });
const { escapeHtml } = markdown.utils;
const { rules } = markdown.renderer;

// A picture becomes a link: its host would learn the address of everyone who reads the answer.
rules.image = (tokens, index) => {
  const token = tokens[index];
  const address = String(token.attrGet("src") ?? "");
  return `<a href="${escapeHtml(address)}">Image: ${escapeHtml(token.content || address)}</a>`;
};

rules.fence = (tokens, index) => block(tokens[index].content, tokens[index].info.trim().split(/\s+/)[0]);
rules.code_block = (tokens, index) => block(tokens[index].content, "");

/** Alignment as a class: the policy of the page allows no style attribute. */
for (const name of ["th_open", "td_open"]) {
  rules[name] = (tokens, index, options, _env, self) => {
    const token = tokens[index];
    const side = /text-align:(left|center|right)/.exec(String(token.attrGet("style") ?? ""))?.[1];
    token.attrs = side ? [["class", `align-${side}`]] : null;
    return self.renderToken(tokens, index, options);
  };
}

/** @param {string} code @param {string} language what the fence says, anything at all */
function block(code, language) {
  const { html, name } = highlighted(code, language);
  return `<pre><code class="hljs${name ? ` language-${name}` : ""}">${html ?? escapeHtml(code)}</code></pre>`;
}

/**
 * The top-level blocks of a text, each with its own source, so that a growing answer renders its last block only.
 * @param {string} text @returns {{source: string, render: () => string}[]}
 */
export function blocks(text) {
  const env = {};
  const lines = text.split("\n");
  return groups(markdown.parse(text, env)).map((tokens) => {
    const [from, to] = tokens[0].map ?? [0, 0];
    return {
      source: `${tokens[0].type} ${lines.slice(from, to).join("\n")}`,
      render: () => markdown.renderer.render(tokens, markdown.options, env),
    };
  });
}

function groups(tokens) {
  const found = [];
  let group = [];
  for (const token of tokens) {
    group.push(token);
    if (token.level === 0 && token.nesting <= 0) {
      found.push(group);
      group = [];
    }
  }
  return found;
}

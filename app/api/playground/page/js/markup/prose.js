import { copyOnClick } from "../browser/copy.js";
import { fromTemplate } from "../browser/dom.js";
import { blocks } from "./markdown.js";
import { sanitize } from "./sanitize.js";

/** An answer's Markdown as nodes. Blocks that did not change keep theirs: a selection and a focused button survive. */
export class Prose {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {{source: string, nodes: Node[]}[]} */
    this.shown = [];
  }

  /** @param {string} text */
  show(text) {
    const wanted = blocks(text);
    let same = 0;
    while (same < wanted.length && wanted[same].source === this.shown[same]?.source) same += 1;
    for (const { nodes } of this.shown.splice(same)) for (const node of nodes) node.parentNode?.removeChild(node);
    for (const block of wanted.slice(same)) {
      const fragment = sanitize(block.render());
      for (const pre of fragment.querySelectorAll("pre")) frame(pre);
      const nodes = [...fragment.childNodes];
      this.root.append(...nodes);
      this.shown.push({ source: block.source, nodes });
    }
  }
}

/** Puts the language and a copy button above a block of code. @param {HTMLElement} pre */
export function frame(pre) {
  const figure = fromTemplate("t-code");
  const language = /language-(\S+)/.exec(pre.querySelector("code")?.className ?? "")?.[1] ?? "text";
  figure.querySelector(".language").textContent = language;
  copyOnClick(figure.querySelector("button"), () => pre.textContent ?? "", "Copy code");
  pre.replaceWith(figure);
  figure.append(pre);
  // Wide code scrolls, and a keyboard has to be able to do that.
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", `Code, ${language}`);
}

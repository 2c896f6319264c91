import DOMPurify from "../../../vendor/dompurify.js";

/**
 * The last wall. markdown.js makes no HTML of what a model writes; whatever it makes passes here all the same, and
 * comes out as nodes: no string of HTML is ever assigned to the document, which Trusted Types enforce.
 */
const CONFIG = {
  ALLOWED_TAGS: [
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "s",
    "span",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
  ],
  ALLOWED_ATTR: ["class", "href", "start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  RETURN_DOM_FRAGMENT: true,
};

/** Classes of highlight.js and of our own renderer: an answer cannot dress as a part of the page. */
const CLASS = /^(?:hljs(?:-[a-z-]+)?|[a-z]+_|language-[\w+#.-]{1,30}|align-(?:left|center|right))$/;

const purify = DOMPurify(window);

purify.addHook("uponSanitizeAttribute", (_, data) => {
  if (data.attrName === "class")
    data.attrValue = data.attrValue
      .split(/\s+/)
      .filter((name) => CLASS.test(name))
      .join(" ");
});

purify.addHook("afterSanitizeAttributes", (node) => {
  if (!(node instanceof Element) || node.tagName !== "A" || !node.hasAttribute("href")) return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("title", node.getAttribute("href") ?? "");
});

/** @param {string} html @returns {DocumentFragment} */
export function sanitize(html) {
  const fragment = purify.sanitize(html, CONFIG);
  for (const link of fragment.querySelectorAll("a[href]")) sayWhereItLeads(link);
  return fragment;
}

/** Text that starts with an address, or that a reader would take for one. */
const ADDRESS =
  /^\s*(?:https?:\/\/(?:[^/@\s]*@)?|(?=www\.)|(?=(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|dev|cn)\b))([\w.-]+)/i;

/** A link whose text looks like an address of another site says which one it opens. @param {Element} link */
function sayWhereItLeads(link) {
  const shown = ADDRESS.exec(link.textContent ?? "")?.[1].toLowerCase();
  if (!shown) return;
  const real = URL.parse(link.getAttribute("href") ?? "")?.hostname ?? "";
  if (real.replace(/^www\./, "") !== shown.replace(/^www\./, "")) link.append(` (opens ${real || "a mail"})`);
}

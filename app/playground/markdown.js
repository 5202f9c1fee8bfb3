// A model's words as Markdown, without HTML: marked only reads, and what it has read becomes elements one by one. What it takes for HTML is
// shown as the text that it is, links lead to web pages only, and images are links. What is too much for that is shown as it was written.

import { Marked } from "./vendor/marked/marked.esm.js";
import { el } from "./dom.js";

const LONGEST = 20_000; // characters: an answer is read anew with each frame in which it grows
const DEEPEST = 24; // quotes in quotes, lists in lists

const OPENS = /^$|[\s("'[{>:]$/;

const marked = new Marked({
  breaks: true,
  tokenizer: {
    html: () => undefined,
    tag: () => undefined,
    // "17*23 + 4*5" is arithmetic, not emphasis: an asterisk begins one only where a word could.
    emStrong(src, _masked, before = "") {
      return src[0] === "*" && !OPENS.test(before) ? undefined : false;
    },
    // LaTeX's brackets keep their backslash.
    escape(src) {
      return /^\\[()[\]]/.test(src) ? undefined : false;
    },
  },
});

const BLOCKS = {
  space: () => null,
  hr: () => el("hr"),
  heading: (token) => el("p", { class: "heading" }, inlines(token.tokens)),
  paragraph: (token) => el("p", {}, inlines(token.tokens)),
  text: (token) => (token.tokens ? el("span", {}, inlines(token.tokens)) : token.text),
  code: (token) => el("pre", { tabindex: "0" }, el("code", {}, token.text)),
  blockquote: (token) => el("blockquote", {}, blocks(token.tokens)),
  list: (token) => el(token.ordered ? "ol" : "ul", token.ordered ? { start: token.start } : {}, token.items.map((item) => el("li", {}, blocks(item.tokens)))),
  table: (token) =>
    el("table", {},
      el("thead", {}, el("tr", {}, token.header.map((cell) => el("th", {}, inlines(cell.tokens))))),
      el("tbody", {}, token.rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, inlines(cell.tokens))))))),
};

const INLINES = {
  br: () => el("br"),
  strong: (token) => el("strong", {}, inlines(token.tokens)),
  em: (token) => el("em", {}, inlines(token.tokens)),
  del: (token) => el("del", {}, inlines(token.tokens)),
  codespan: (token) => el("code", {}, token.text),
  escape: (token) => token.text,
  text: (token) => (token.tokens ? inlines(token.tokens) : token.text),
  link: (token) => link(token.href, inlines(token.tokens)),
  image: (token) => link(token.href, token.text || token.href),
};

/** Elements for a text. */
export function render(text) {
  if (text.length <= LONGEST) {
    try {
      const tokens = marked.lexer(text);
      if (depth(tokens) <= DEEPEST) return blocks(tokens);
    } catch {
      // Of what is nested thousands deep, marked's stack overflows.
    }
  }
  return [el("p", { class: "plain" }, text)];
}

const inside = (token) => token.tokens ?? token.items ?? [];
const depth = (tokens) => 1 + tokens.reduce((deepest, token) => Math.max(deepest, inside(token).length && depth(inside(token))), 0);

const blocks = (tokens) => tokens.map((token) => (BLOCKS[token.type] ?? INLINES[token.type] ?? raw)(token)).filter((one) => one !== null);
const inlines = (tokens) => tokens.map((token) => (INLINES[token.type] ?? raw)(token));
const raw = (token) => token.raw;

function link(href, content) {
  let url;
  try {
    url = new URL(href);
  } catch {
    return el("span", {}, content);
  }
  if (!["https:", "http:"].includes(url.protocol)) return el("span", {}, content);
  return el("a", { href: url.href, rel: "noopener noreferrer nofollow", target: "_blank" }, content);
}

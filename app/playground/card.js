// One step of the tree as it is drawn: its value on a colour, its mark, its answer, and as many of its words as there is room for.

import { svg } from "./dom.js";
import { line, value } from "./format.js";
import { MARKS } from "./run.js";

export const HEIGHT = 24;
const BADGE = 38;
const CHAR = 7.3; // of a monospaced letter at the size in tree.css

/** An empty card: an item of an ARIA tree, which has no children of its own there. */
export function card() {
  return svg("g", { role: "treeitem", tabindex: "-1" },
    svg("rect", { class: "box", height: HEIGHT, rx: 7 }),
    svg("rect", { class: "badge", width: BADGE, height: HEIGHT, rx: 7 }),
    svg("text", { class: "number", x: BADGE / 2, y: 16 }),
    svg("text", { class: "words", x: BADGE + 6, y: 16 }));
}

/** Write a step on it. `more`: others that said the same, which this card stands for. */
export function letter(group, node, width, more) {
  const [box, badge, number, words] = group.children;
  box.setAttribute("width", width);
  badge.setAttribute("class", `badge ${node.value === null ? "none" : `v${Math.min(Math.floor(node.value * 5), 4)}`}`);
  number.textContent = node.value === null ? "–" : value(node.value);
  let room = Math.floor((width - BADGE - 12) / CHAR);
  const pieces = [];
  const add = (text, kind) => {
    const cut = line(text, room);
    if (!cut || room <= 0) return;
    pieces.push(svg("tspan", { class: kind, dx: pieces.length ? 6 : 0 }, cut));
    room -= cut.length + 1;
  };
  add(MARKS[node.state], "sign");
  if (node.answer !== null) add(node.answer, "answer");
  const count = more ? `+${more}` : node.visits ? `×${node.visits}` : "";
  room -= count.length && count.length + 1;
  const step = node.text.replace(/^[#\s]+/, "");
  if (step.trim() !== node.answer) add(step || "(nothing)", "step");
  if (count) pieces.push(svg("tspan", { class: "visits", dx: 6 }, count));
  words.replaceChildren(...pieces);
}

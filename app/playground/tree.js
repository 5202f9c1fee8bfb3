// The search tree as a drawing that grows: d3 places the nodes, from left to right, and they glide to where they belong.
// Each is an item of an ARIA tree: arrow keys follow what is seen, Enter shows a step.

import { hierarchy, tree as layout } from "./vendor/d3-hierarchy/d3-hierarchy.min.mjs";
import { HEIGHT, card, letter } from "./card.js";
import { $, svg } from "./dom.js";
import { inWords } from "./run.js";
import { thinned } from "./thinning.js";

const ROW = 29;
const GAP = 26;
const ROOT_WIDTH = 34;
const GLIDE_MS = 260;

export class TreeView {
  constructor(onSelect) {
    this.onSelect = onSelect;
    this.box = $("tree");
    this.canvas = svg("svg", { role: "none" });
    this.edges = svg("g", { class: "edges", role: "none" });
    this.cards = svg("g", { class: "cards", role: "none" });
    this.start = svg("circle", { class: "root", r: 6, role: "none" });
    this.canvas.append(this.edges, this.start, this.cards);
    this.box.append(this.canvas);
    this.clear();
    this.box.addEventListener("keydown", (event) => this.#onKey(event));
    for (const kind of ["wheel", "pointerdown", "keydown"]) this.box.addEventListener(kind, () => { this.isFollowing = false; }, { passive: true });
  }

  clear() {
    this.items = new Map();
    this.unfolded = new Set(); // keys of parents whose duplicates are shown one by one
    this.selected = null;
    this.isFollowing = true;
    this.scale = 1;
    this.edges.replaceChildren();
    this.cards.replaceChildren();
  }

  /** Draw the run as it stands; how many nodes there was no room for. */
  draw(run) {
    this.run = run;
    const path = run.winningPath;
    const { root, left } = thinned(run, path, this.unfolded);
    const tree = layout().nodeSize([ROW, 1]).separation((a, b) => (a.parent === b.parent ? 1 : 1.25))(hierarchy(root));
    const deepest = tree.height || 1;
    const room = this.box.clientWidth - ROOT_WIDTH - 12;
    const isFlat = deepest === 1 && !run.isStepwise; // whole answers side by side have the room for themselves
    this.column = Math.max(158, isFlat ? Math.min(room, 720) : Math.min(room / Math.max(deepest, 4), 300));
    let top = Infinity;
    let bottom = -Infinity;
    tree.each((at) => { top = Math.min(top, at.x); bottom = Math.max(bottom, at.x); });
    this.size = { width: ROOT_WIDTH + deepest * this.column, height: bottom - top + ROW + 12 };
    this.origin = { x: 10, y: tree.x - top + ROW / 2 + 6 };
    const seen = new Set();
    tree.each((at) => {
      if (!at.data.node) return;
      const target = { x: ROOT_WIDTH + (at.depth - 1) * this.column, y: at.x - top + ROW / 2 + 6 };
      seen.add(at.data.node.key);
      this.#place(at, target, path);
    });
    for (const [id, item] of this.items) if (!seen.has(id)) this.#drop(id, item);
    this.#arrangeFocus();
    this.#resize();
    this.#glide();
    return left;
  }

  #place(at, target, path) {
    const node = at.data.node;
    let item = this.items.get(node.key);
    if (!item) {
      const parent = this.items.get(at.parent.data.node?.key);
      const from = parent ? { x: parent.x + 20, y: parent.y } : { x: this.origin.x, y: this.origin.y };
      item = { ...from, card: card(), edge: svg("path", { role: "none" }) };
      item.card.addEventListener("click", () => this.select(node.key, { focus: true, unfold: true }));
      this.items.set(node.key, item);
      this.cards.append(item.card);
      this.edges.append(item.edge);
    }
    const siblings = at.parent.children;
    Object.assign(item, { target, node, at, parent: at.parent.data.node?.key ?? null, from: { x: item.x, y: item.y } });
    const isBest = path.has(node.key);
    const isThinking = this.run.isRunning && node.state === "open" && !at.children;
    item.edge.setAttribute("class", isBest ? "best" : node.state);
    item.card.setAttribute("class", `card ${node.state}${isBest ? " best" : ""}${isThinking ? " thinking" : ""}`);
    item.card.setAttribute("aria-level", at.depth);
    item.card.setAttribute("aria-posinset", siblings.indexOf(at) + 1);
    item.card.setAttribute("aria-setsize", siblings.length);
    const { more } = at.data;
    item.card.setAttribute("aria-label", inWords(node) + (more ? `, and ${more} more that were said before: Enter shows them` : ""));
    item.card.setAttribute("aria-selected", String(this.selected === node.key));
    if (item.told !== node || item.width !== this.column || item.more !== more) letter(item.card, node, this.column - GAP, more);
    Object.assign(item, { told: node, width: this.column, more });
  }

  #drop(id, item) {
    item.card.remove();
    item.edge.remove();
    this.items.delete(id);
  }

  #glide() {
    cancelAnimationFrame(this.frame);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches || this.items.size > 400;
    const began = performance.now();
    const step = (now) => {
      const t = still ? 1 : Math.min((now - began) / GLIDE_MS, 1);
      const eased = 1 - (1 - t) ** 3;
      for (const item of this.items.values()) {
        item.x = item.from.x + (item.target.x - item.from.x) * eased;
        item.y = item.from.y + (item.target.y - item.from.y) * eased;
      }
      for (const item of this.items.values()) this.#move(item);
      this.start.setAttribute("cx", this.origin.x);
      this.start.setAttribute("cy", this.origin.y);
      if (t < 1) this.frame = requestAnimationFrame(step);
    };
    step(began + (still ? GLIDE_MS : 0));
  }

  #move(item) {
    const parent = this.items.get(item.parent);
    const x = parent ? parent.x + this.column - GAP : this.origin.x + 6;
    const y = parent ? parent.y : this.origin.y;
    const middle = (x + item.x) / 2;
    item.card.setAttribute("transform", `translate(${item.x} ${item.y - HEIGHT / 2})`);
    item.edge.setAttribute("d", `M${x} ${y}C${middle} ${y} ${middle} ${item.y} ${item.x} ${item.y}`);
  }

  #resize() {
    const { width, height } = this.size;
    this.canvas.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.canvas.setAttribute("width", width * this.scale);
    this.canvas.setAttribute("height", height * this.scale);
    if (this.isFollowing && this.run.isRunning) this.box.scrollLeft = this.box.scrollWidth;
  }

  /** Larger or smaller by a factor, or so that all of it is seen. */
  zoom(factor) {
    if (!this.run) return;
    const fitting = Math.min(this.box.clientWidth / this.size.width, this.box.clientHeight / this.size.height, 1);
    this.scale = factor === null ? Math.max(fitting, 0.2) : Math.min(Math.max(this.scale * factor, 0.2), 2.5);
    this.#resize();
  }

  /** Bring a step into view. */
  show(id) {
    const item = this.items.get(id);
    if (!item) return;
    this.box.scrollLeft = item.target.x * this.scale - this.box.clientWidth + this.column * this.scale + 8;
    this.box.scrollTop = item.target.y * this.scale - this.box.clientHeight / 2;
  }

  select(id, { focus = false, unfold = false } = {}) {
    this.selected = id;
    const item = this.items.get(id);
    if (unfold && item?.more) {
      this.unfolded.add(item.parent);
      this.draw(this.run);
    }
    for (const [other, item] of this.items) item.card.setAttribute("aria-selected", String(other === id));
    this.#arrangeFocus();
    if (focus) this.items.get(id)?.card.focus();
    this.onSelect(id);
  }

  /** One item takes part in the order of Tab: the selected one, else the winner, else the first. */
  #arrangeFocus() {
    const ids = [...this.items.keys()];
    const active = [this.selected, this.run?.winner?.key, ids[0]].find((id) => this.items.has(id));
    for (const [id, item] of this.items) item.card.setAttribute("tabindex", id === active ? "0" : "-1");
  }

  #onKey(event) {
    const at = [...this.items.values()].find((item) => item.card === document.activeElement)?.at;
    if (!at || event.altKey || event.ctrlKey || event.metaKey) return;
    const level = () => [...this.items.values()].map((item) => item.at).filter((one) => one.depth === at.depth).sort((a, b) => a.x - b.x);
    const moves = {
      ArrowRight: () => at.children?.[0],
      ArrowLeft: () => (at.parent.data.node ? at.parent : null),
      ArrowDown: () => level()[level().indexOf(at) + 1],
      ArrowUp: () => level()[level().indexOf(at) - 1],
      Home: () => level()[0],
      End: () => level().at(-1),
      Enter: () => at,
      " ": () => at,
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const next = move();
    if (next) this.select(next.data.node.key, { focus: true, unfold: next === at });
  }
}

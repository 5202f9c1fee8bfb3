// One request as it is known so far: what the stream, or a kept trace, has told.

export class Run {
  constructor(question, strategy) {
    Object.assign(this, { question, strategy, nodes: new Map(), plan: null, account: null, answer: "", progress: "", traceId: null, state: "running" });
    this.started = performance.now();
  }

  /** A run that has been, from `GET /v1/traces/{id}`. */
  static of(trace, question) {
    const run = new Run(question, trace.strategy);
    run.takeNodes(trace.nodes);
    Object.assign(run, { plan: trace.ponder, account: trace.ponder, traceId: trace.id, state: trace.status });
    return run;
  }

  /** One chunk of the stream. */
  take(chunk) {
    const ponder = chunk.ponder;
    if (ponder?.nodes) this.takeNodes(ponder.nodes);
    else if (ponder) this.plan = ponder;
    if (ponder?.stop_reason) this.account = ponder;
    for (const choice of chunk.choices) {
      if (choice.index !== 0) continue;
      this.answer += choice.delta?.content ?? "";
      this.progress = choice.delta?.reasoning?.trim().split("\n").pop() || this.progress;
    }
  }

  /** New nodes, and those that have changed. Their numbers begin anew with each prompt of a request: here each has a key of its own. */
  takeNodes(nodes) {
    for (const node of nodes) {
      const key = keyOf(node.prompt, node.id);
      this.nodes.set(key, { ...node, key, above: node.parent === null ? null : keyOf(node.prompt, node.parent) });
    }
  }

  get isRunning() {
    return this.state === "running";
  }

  get winner() {
    return [...this.nodes.values()].find((node) => node.state === "chosen") ?? null;
  }

  /** Whether steps of answers grow, as far as the plan tells. */
  get isStepwise() {
    return Boolean(this.plan && "step_tokens" in this.plan.plan.parameters);
  }

  /** Keys from the winners, of which each prompt has its own, up to the prompt. */
  get winningPath() {
    const path = new Set();
    for (const winner of this.nodes.values()) {
      if (winner.state !== "chosen") continue;
      for (let node = winner; node && !path.has(node.key); node = this.nodes.get(node.above)) path.add(node.key);
    }
    return path;
  }

  /** The tree, as `{node, children}` beneath a root that stands for the prompts. What hangs on an unknown node hangs on the root. */
  get root() {
    const nodes = [...this.nodes.values()].sort((a, b) => a.prompt - b.prompt || a.id - b.id);
    const items = new Map(nodes.map((node) => [node.key, { node, children: [] }]));
    const root = { node: null, children: [] };
    for (const item of items.values()) (items.get(item.node.above) ?? root).children.push(item);
    return root;
  }
}

const keyOf = (prompt, id) => `${prompt}.${id}`;

/** A node in words: what a screen reader says of it, and the list. */
export function inWords(node) {
  const parts = [node.text.trim().slice(0, 160) || "(nothing)"];
  if (node.answer !== null) parts.push(`answer ${node.answer}`);
  if (node.value !== null) parts.push(`value ${node.value.toFixed(2)}`);
  if (node.visits) parts.push(`visited ${node.visits} times`);
  return `${STATES[node.state] ?? node.state}: ${parts.join(", ")}`;
}

export const STATES = { open: "open", pruned: "pruned", duplicate: "duplicate", final: "whole answer", chosen: "chosen answer" };
export const MARKS = { open: "", pruned: "✗", duplicate: "=", final: "✓", chosen: "★" };

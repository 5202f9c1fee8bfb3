// The conversation: what was asked, what was answered, and what is asked next.

import { $, attempt, el, problem } from "./dom.js";
import { count, flops, plural, seconds } from "./format.js";
import { render } from "./markdown.js";

export class Conversation {
  constructor(onShow) {
    this.onShow = onShow;
    this.turns = [];
    this.welcome = $("welcome");
  }

  /** The messages of a request that asks one more question: what was answered is in it, what failed is not. */
  messages(question) {
    const answered = this.turns.filter((run) => run.state === "completed" && run.answer);
    return [...answered.flatMap((run) => [{ role: "user", content: run.question }, { role: "assistant", content: run.answer }]), { role: "user", content: question }];
  }

  /** Tell what stands in the way of a question, until the next is asked. */
  complain(error) {
    this.settle();
    this.complaint = problem(error);
    $("messages").append(this.complaint);
    this.complaint.scrollIntoView({ block: "nearest" });
  }

  settle() {
    this.complaint?.remove();
  }

  clear() {
    this.turns = [];
    $("messages").replaceChildren(this.welcome);
  }

  /** Begin a turn; it is brought up to date with `update`. */
  add(run) {
    this.turns.push(run);
    const body = el("div", { class: "said" });
    const foot = el("div", { class: "foot" });
    run.message = { body, foot };
    this.settle();
    if (this.turns.length === 1) $("messages").replaceChildren();
    $("messages").append(
      el("article", { class: "user", "aria-label": "You" }, el("p", {}, run.question)),
      el("article", { class: "model", "aria-label": run.model }, body, foot),
    );
    this.update(run);
  }

  update(run) {
    const { body, foot } = run.message;
    const parts = run.answer ? attempt(() => render(run.answer), () => [run.answer]) : [];
    if (run.isRunning) parts.push(el("p", { class: "progress" }, el("span", { class: "pulse", "aria-hidden": "true" }), run.answer ? "writing" : run.progress || "reading the question"));
    if (run.state === "cancelled") parts.push(el("p", { class: "notice" }, "Cancelled. The server has ended every branch."));
    if (run.error) parts.push(problem({ message: run.error }));
    if (!run.isRunning && !run.error && run.state === "completed" && !run.answer) parts.push(el("p", { class: "notice" }, "The answer is empty."));
    body.replaceChildren(...parts);
    foot.replaceChildren(...this.#foot(run));
    $("messages").scrollTop = $("messages").scrollHeight;
  }

  #foot(run) {
    const account = run.account;
    const words = account
      ? [account.strategy, plural(account.tokens.decoded, "token"), flops(account.flops.total), seconds(run.seconds ?? account.seconds.search)]
      : [run.plan?.strategy ?? run.strategy, run.nodes.size ? plural(run.nodes.size, "step") : null].filter(Boolean);
    return [el("span", {}, words.join(" · ")), el("button", { type: "button", class: "quiet small", onclick: () => this.onShow(run) }, "Show its tree")];
  }
}

/** What is said to those who listen, a sentence at a time and not more often than they can follow. */
export class Announcer {
  #last = -Infinity;

  progress(text) {
    if (!text || performance.now() - this.#last < 4000) return;
    this.say(text);
  }

  say(text) {
    this.#last = performance.now();
    $("live").textContent = text;
  }
}

export const summary = (run) => `Answer: ${run.answer || "none"}. ${count(run.account.tokens.decoded)} tokens, ${flops(run.account.flops.total)}, ${seconds(run.seconds)}.`;

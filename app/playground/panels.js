// What is told beside the tree: one step, the plan with its reason, what it all cost, and the tree as a list.

import { $, attempt, el, facts, problem } from "./dom.js";
import { count, flops, plural, ratio, seconds, share, value } from "./format.js";
import { MARKS, STATES, inWords } from "./run.js";

/** Put into a panel what `make` makes, or hide the panel. */
export function show(id, make) {
  $(id).hidden = make === null;
  $(id).querySelector(".body").replaceChildren(...(make ? attempt(make, (error) => [problem(error)]) : []));
}

/** All that is known of a step. */
export function step(node) {
  return [
    el("p", { class: "state" }, el("span", { class: `mark ${node.state}` }, MARKS[node.state] || "·"), ` ${STATES[node.state] ?? node.state}`),
    el("pre", { class: "words", tabindex: "0", "aria-label": "Text of the step" }, node.text || "(nothing)"),
    facts([
      ["Answer", node.answer],
      ["Value", node.value === null ? null : value(node.value)],
      ["Score of the step", node.score === null ? null : value(node.score)],
      ["Visits", node.visits || null],
      ["Tokens", `${count(node.tokens)} generated, ${count(node.cached_tokens)} of its prefix cached`],
      ["FLOPs", flops(node.flops)],
      ["Time", `${seconds(node.seconds)}, begun after ${seconds(node.started)}`],
      ["Ended by", node.finish_reason],
      ["Number", `${node.id}${node.parent === null ? "" : `, after ${node.parent}`}`],
      ["In view", node.in_view?.length > 1 ? node.in_view.join(", ") : null],
      ["Prompt", node.prompt || null],
    ]),
  ];
}

/** What was planned, why, and how hard the question looked. */
export function plan(told) {
  const { strategy, plan: planned, difficulty } = told;
  const parameters = Object.entries(planned.parameters).filter(([, one]) => one !== null);
  return [
    el("p", { class: "headline" }, el("strong", {}, strategy), planned.calibrated ? el("span", { class: "tag" }, "calibrated") : null),
    el("p", {}, `${planned.why}.`),
    difficulty ? gauge("Chance that the first answer is wrong", difficulty.before) : null,
    difficulty && difficulty.after !== null ? gauge("After what was drawn", difficulty.after) : null,
    told.stop_reason ? facts([["Ended", ENDS[told.stop_reason] ?? told.stop_reason], ["Adapter", told.adapter], ["Kind of answer", told.answer_kind]]) : null,
    told.notes?.length ? el("ul", {}, told.notes.map((note) => el("li", {}, note))) : null,
    parameters.length
      ? el("details", {}, el("summary", {}, plural(parameters.length, "parameter")), facts(parameters.map(([name, one]) => [name, el("code", {}, JSON.stringify(one))])))
      : null,
  ].filter((one) => one !== null);
}

const ENDS = {
  completed: "it drew all that was asked for",
  settled: "more would not change the answer",
  diminishing_returns: "more was not worth its FLOPs",
  verified: "an answer was proven",
  budget_tokens: "the token budget was spent",
  budget_flops: "the FLOPs budget was spent",
  budget_seconds: "the time was over",
};

function gauge(name, chance) {
  return el("div", { class: "gauge" }, el("span", {}, name), el("strong", {}, share(chance)), bar(chance, "amber"));
}

/** A bar; decoration, since the number stands beside it. */
function bar(part, kind = "") {
  const filled = el("span", { class: kind });
  filled.style.width = `${Math.min(Math.max(part, 0), 1) * 100}%`;
  return el("div", { class: "meter", "aria-hidden": "true" }, filled);
}

const PHASES = [["prefill", "Reading"], ["decode", "Writing"], ["verify", "Checking"], ["recompute", "Repeating"]];

/** FLOPs against sixteen whole answers, by phase; tokens; seconds. */
export function cost(account) {
  const spent = account.flops;
  // What was computed again is shown only where a replica has failed.
  const phases = PHASES.filter(([phase]) => phase !== "recompute" || spent[phase]);
  const tokens = Object.entries(account.tokens).filter(([kind, number]) => kind !== "recomputed" || number);
  const parts = el("div", { class: "meter parts", "aria-hidden": "true" }, phases.map(([phase]) => {
    const part = el("span", { class: phase });
    part.style.width = `${(spent[phase] / (spent.total || 1)) * 100}%`;
    return part;
  }));
  return [
    el("p", { class: "headline" }, el("strong", {}, flops(spent.total))),
    ...against(spent),
    el("h4", {}, "FLOPs by phase"),
    parts,
    facts(phases.map(([phase, name]) => [el("span", {}, el("i", { class: `dot ${phase}` }), name), flops(spent[phase])])),
    facts([
      ["Saved by the cache", saved(spent.saved_by_cache)],
      ["Saved by stopping early", saved(spent.saved_by_early_stopping)],
    ]),
    el("h4", {}, "Tokens"),
    facts(tokens.map(([kind, number]) => [kind, count(number)])),
    el("h4", {}, "Time"),
    facts(Object.entries(account.seconds).map(([phase, number]) => [phase.replace("_", " "), seconds(number)])),
    facts([["Branches", `${count(account.branches.drawn)} drawn, ${count(account.branches.cancelled)} cancelled`]]),
  ];
}

const saved = (number) => (number ? flops(number) : null);

function against(spent) {
  const fixed = spent.best_of_16;
  if (!fixed) return [];
  const most = Math.max(spent.total, fixed);
  return [
    el("p", { id: "against" }, el("strong", {}, `${ratio(spent.total / fixed)} of best-of-16`), ", which would have taken ", flops(fixed), "."),
    el("div", { class: "versus" }, el("span", {}, "this"), bar(spent.total / most, "accent"), el("span", {}, "16 answers"), bar(fixed / most, "grey")),
  ];
}

/** The tree as nested lists, for those who read rather than look. */
export function outline(run, onSelect) {
  const list = (items) =>
    el("ul", {}, items.map(({ node, children }) =>
      el("li", {}, el("button", { type: "button", class: "quiet", onclick: () => onSelect(node.key) }, inWords(node)), children.length ? list(children) : null)));
  return list(run.root.children);
}

// Past runs: the server keeps what its last requests did, this tab remembers what it asked.

import { call } from "./api.js";
import { $, el, problem } from "./dom.js";
import { flops, plural } from "./format.js";

const KEY = "ponder.questions";
const MOST = 100;

const questions = () => {
  try {
    return new Map(JSON.parse(sessionStorage.getItem(KEY) ?? "[]"));
  } catch {
    return new Map();
  }
};

/** Remember what a trace's question was: the server does not keep prompts. */
export function remember(traceId, question) {
  const all = questions().set(traceId, question.slice(0, 200));
  sessionStorage.setItem(KEY, JSON.stringify([...all].slice(-MOST)));
}

/** Fill the dialog; `onOpen` gets a whole trace and its question. */
export async function list(onOpen, onRefused) {
  const body = $("traces").querySelector(".body");
  body.replaceChildren(el("p", { class: "hint" }, "Asking the server…"));
  try {
    const { data } = await call("v1/traces?limit=50");
    const known = questions();
    body.replaceChildren(data.length
      ? el("ul", { class: "runs" }, data.map((trace) => row(trace, known.get(trace.id), onOpen, body)))
      : el("p", {}, "Nothing has been asked yet."));
  } catch (error) {
    body.replaceChildren(problem(error));
    onRefused(error);
  }
}

function row(trace, question, onOpen, body) {
  const open = async () => {
    try {
      onOpen(await call(`v1/traces/${encodeURIComponent(trace.id)}`), question ?? "");
    } catch (error) {
      body.prepend(problem(error));
    }
  };
  const told = [trace.model, trace.strategy, trace.status, plural(trace.num_nodes, "step"), trace.flops === null ? null : flops(trace.flops)];
  const when = new Date(trace.created * 1000);
  return el("li", {}, el("button", { type: "button", onclick: open },
    el("span", { class: "name" }, question || `Run ${trace.id.slice(0, 8)}`),
    el("time", { datetime: when.toISOString() }, when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })),
    el("span", { class: "hint" }, told.filter(Boolean).join(" · "))));
}

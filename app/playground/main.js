// The page: puts the parts together, and leads one request at a time from the question to its account.

import * as admin from "./admin.js";
import { call, chat, keyOf, setKey } from "./api.js";
import { Controls } from "./controls.js";
import { Announcer, Conversation, summary } from "./conversation.js";
import { $, attempt, problem } from "./dom.js";
import { line, plural } from "./format.js";
import * as panels from "./panels.js";
import { Run } from "./run.js";
import { TreeView } from "./tree.js";
import * as traces from "./traces.js";

let shown = null; // the run whose tree is on show
let abort = null; // ends the request in work
let frame = 0;

const tree = new TreeView((key) => panels.show("node", shown?.nodes.has(key) ? () => panels.step(shown.nodes.get(key)) : null));
const conversation = new Conversation(show);
const announcer = new Announcer();
const controls = new Controls(await call("playground/options").catch(failed));

function failed(error) {
  $("messages").replaceChildren(problem(error));
  throw error;
}

function show(run) {
  if (run !== shown) {
    tree.clear();
    panels.show("node", null);
    $("tree-box").scrollTop = 0;
  }
  shown = run;
  draw();
  if (!run.isRunning && run.winner) tree.show(run.winner.key);
  if (matchMedia("(max-width: 60rem)").matches) $("search").scrollIntoView(); // below the conversation there
}

/** Once for each frame at most, however fast the news come. */
function refresh(run) {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    if (run.message) attempt(() => conversation.update(run), () => null);
    if (run === shown) draw();
  });
}

function draw() {
  const run = shown;
  const has = run.nodes.size > 0 || run.isRunning;
  $("tree").hidden = $("legend").hidden = !has;
  $("outline").hidden = run.nodes.size === 0;
  $("tree-empty").hidden = has;
  const left = has ? attempt(() => tree.draw(run), () => null) : 0;
  $("tree-box").classList.toggle("running", run.isRunning);
  const told = [run.nodes.size ? plural(run.nodes.size, "step") : null, left === null ? "they cannot be drawn" : left ? `${left} of them not drawn` : null, run.question && `“${line(run.question, 48)}”`];
  $("tree-count").textContent = told.filter(Boolean).join(" · ");
  panels.show("plan", run.plan && (() => panels.plan(run.plan)));
  panels.show("cost", run.account && (() => panels.cost(run.account)));
  if (tree.selected !== null && run.nodes.has(tree.selected)) panels.show("node", () => panels.step(run.nodes.get(tree.selected)));
  if ($("outline").open) outline();
}

const outline = () => $("outline-body").replaceChildren(attempt(() => panels.outline(shown, (key) => tree.select(key)), problem));

async function ask() {
  const question = $("question").value.trim();
  if (abort) return;
  if (!question) {
    $("question").value = "";
    $("question").reportValidity();
    return;
  }
  const run = new Run(question, controls.strategy);
  run.model = $("model").value || "model";
  let body;
  try {
    body = controls.body(conversation.messages(question));
  } catch (error) {
    announcer.say(error.message);
    if (!error.field) return conversation.complain(error);
    $("settings").open = true;
    error.field.focus();
    return;
  }
  conversation.add(run);
  $("new-chat").hidden = false;
  $("question").value = "";
  working(true);
  show(run);
  announcer.say("The search begins.");
  await follow(run, body);
  working(false);
  refresh(run);
}

async function follow(run, body) {
  abort = new AbortController();
  try {
    const { traceId, chunks } = await chat(body, abort.signal);
    run.traceId = traceId;
    traces.remember(traceId, run.question);
    for await (const chunk of chunks) {
      run.take(chunk);
      announcer.progress(run.progress);
      refresh(run);
    }
    run.state = "completed";
    run.seconds = (performance.now() - run.started) / 1000;
    if (run.account) announcer.say(summary(run));
    if (run === shown && run.winner) requestAnimationFrame(() => requestAnimationFrame(() => tree.show(run.winner?.key)));
  } catch (error) {
    if (error.name === "AbortError") {
      run.state = "cancelled";
      announcer.say("Cancelled.");
    } else {
      run.state = "failed";
      run.error = error.message + (error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "");
      $("question").value ||= run.question;
      refused(error);
    }
  } finally {
    abort = null;
  }
}

function working(isWorking) {
  const hadFocus = document.activeElement === $(isWorking ? "send" : "cancel");
  $("send").hidden = isWorking;
  $("cancel").hidden = $("stop").hidden = !isWorking;
  if (hadFocus) $(isWorking ? "cancel" : "question").focus();
}

/** Without a valid key the server answers nothing: ask for one. */
function refused(error) {
  if (error.status !== 401) return;
  $("key-form").hidden = false;
  $("key").focus();
}

async function loadModels() {
  try {
    controls.setModels((await call("v1/models")).data);
    $("key-form").hidden = true;
    conversation.settle();
  } catch (error) {
    announcer.say(error.message);
    if (error.status !== 401 || keyOf("api")) conversation.complain(error);
    refused(error);
  }
}

$("composer").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
for (const id of ["cancel", "stop"]) $(id).addEventListener("click", () => abort?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !document.querySelector("dialog[open]")) abort?.abort(); });
$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setKey("api", $("key").value);
  $("key").value = "";
  await loadModels();
  if (keyOf("api") && $("key-form").hidden) $("question").focus();
});
$("new-chat").addEventListener("click", () => {
  abort?.abort();
  conversation.clear();
  $("new-chat").hidden = true;
  $("question").focus();
});
$("zoom-in").addEventListener("click", () => tree.zoom(1.25));
$("zoom-out").addEventListener("click", () => tree.zoom(0.8));
$("zoom-fit").addEventListener("click", () => tree.zoom(null));
$("outline").addEventListener("toggle", () => { if ($("outline").open && shown) outline(); });
for (const name of ["traces", "admin"]) $(name).querySelector(".close").addEventListener("click", () => $(name).close());
$("open-admin").addEventListener("click", () => { $("admin").showModal(); admin.open(loadModels); });
$("open-traces").addEventListener("click", () => {
  $("traces").showModal();
  traces.list((trace, question) => { $("traces").close(); show(Run.of(trace, question)); announcer.say(`The tree of ${question || "a past run"} is shown.`); }, (error) => { if (error.status === 401) { $("traces").close(); refused(error); } });
});
addEventListener("resize", () => { if (shown) refresh(shown); });
await loadModels();
document.documentElement.dataset.ready = "yes";

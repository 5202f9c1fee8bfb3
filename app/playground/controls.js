// The controls, made of what the server says may be chosen. What is left empty is not sent.

import { $, el } from "./dom.js";
import { EXAMPLES, PREFERRED_MODEL } from "./examples.js";

const REQUEST = [
  { name: "effort", description: "what accuracy is worth, where the server chooses", options: "efforts" },
  { name: "answer", description: "what the final answer is, and so how two are compared", options: "answer_kinds" },
  { name: "max_tokens", description: "the most tokens of one answer", schema: { type: "integer", minimum: 1 } },
  { name: "temperature", description: "how freely it samples", schema: { type: "number", minimum: 0, maximum: 2 } },
  { name: "seed", description: "the same seed, the same search", schema: { type: "integer" } },
  { name: "budget.tokens", description: "the most tokens of all branches together", schema: { type: "integer", minimum: 1 } },
  { name: "budget.flops", description: "the most FLOPs, for example 1e12", schema: { type: "number", exclusiveMinimum: 0 } },
  { name: "budget.seconds", description: "the most time", schema: { type: "number", exclusiveMinimum: 0 } },
  { name: "budget.thinking_tokens", description: "the most tokens that each answer thinks", schema: { type: "integer", minimum: 0 } },
];
const TOP_LEVEL = new Set(["max_tokens", "temperature", "seed"]);

export class Controls {
  constructor(options) {
    this.options = options;
    for (const { name } of options.strategies) $("strategy").append(el("option", { value: name }, name));
    $("request").append(...REQUEST.map((one) => field(one, "request", options[one.options])));
    $("strategy").addEventListener("change", () => this.#showParameters({}));
    $("settings").addEventListener("input", () => this.#count());
    $("presets").append(...EXAMPLES.map((example) => el("button", { type: "button", class: "chip", "aria-pressed": "false", onclick: () => this.choose(example) }, example.label)));
    this.choose(EXAMPLES[0], { focus: false });
  }

  /** Fill in an example: question, strategy, parameters. */
  choose(example, { focus = true } = {}) {
    $("question").value = example.question;
    $("strategy").value = example.strategy;
    $("settings").querySelectorAll("#request input, #request select").forEach((input) => { input.value = ""; settle(input); });
    for (const [name, value] of Object.entries(example.request ?? {})) $(`request-${name}`).value = value;
    this.#showParameters(example.parameters);
    for (const [index, chip] of [...$("presets").children].entries()) chip.setAttribute("aria-pressed", String(EXAMPLES[index] === example));
    if (focus) $("question").focus();
  }

  /** The models there are, without those names that carry a strategy. */
  setModels(models) {
    const before = $("model").value;
    const names = models.map((model) => model.id).filter((name) => !name.includes("@"));
    $("model").replaceChildren(...names.map((name) => el("option", { value: name }, name)));
    $("model").value = [before, PREFERRED_MODEL, names[0]].find((name) => names.includes(name)) ?? "";
  }

  get strategy() {
    return $("strategy").value;
  }

  /** The body of the request; raises an error with a `field` for what cannot be read, and tells it there. */
  body(messages) {
    const ponder = { show_nodes: true, strategy: this.strategy };
    const body = { model: $("model").value, messages, stream: true, stream_options: { include_usage: true }, ponder };
    for (const input of document.querySelectorAll("#parameters [data-name]")) put(ponder, input);
    for (const input of document.querySelectorAll("#request [data-name]")) put(TOP_LEVEL.has(input.dataset.name) ? body : ponder, input);
    return body;
  }

  #showParameters(values) {
    const strategy = this.options.strategies.find((one) => one.name === this.strategy);
    $("summary").textContent = strategy.summary;
    $("parameters").hidden = !strategy.parameters.length;
    $("parameters").querySelector(".fields").replaceChildren(...strategy.parameters.map((one) => field(one, "parameter", null, values[one.name])));
    this.#count();
  }

  #count() {
    const set = [...$("settings").querySelectorAll("[data-name]")].filter((input) => input.value !== "").length;
    $("num-set").textContent = set ? `· ${set} set` : "";
  }
}

/** A control with its label and help. */
function field({ name, description, schema = {}, default: usual }, group, options, value) {
  const id = `${group}-${name}`;
  const input = control(schema, usual, options, { id, "data-name": name, "aria-describedby": `${id}-help` });
  if (value !== undefined) input.value = ["text", "object"].includes(input.dataset.kind) ? written(value) : String(value);
  const named = (schema.anyOf ?? []).flatMap((one) => one.enum ?? []);
  const list = input.hasAttribute("list") ? el("datalist", { id: `${id}-list` }, named.map((one) => el("option", { value: one }))) : null;
  input.addEventListener("input", () => settle(input));
  return el("div", { class: "field" }, el("label", { for: id }, name.replace(/[._]/g, " ")), input, list, el("p", { id: `${id}-help`, class: "hint" }, description.replaceAll("`", "")));
}

function control(schema, usual, options, properties) {
  const kinds = (schema.anyOf ?? [schema]).filter((one) => one.type !== "null");
  const choices = options ?? kinds.flatMap((one) => one.enum ?? (one.const === undefined ? [] : [one.const]));
  const shown = usual === undefined || usual === null ? "the server decides" : written(usual);
  if (kinds.some((one) => one.type === "array")) {
    return el("input", { ...properties, "data-kind": "object", placeholder: shown, autocomplete: "off", spellcheck: "false" });
  }
  if (choices.length && kinds.some((one) => one.type === "object")) {
    return el("input", { ...properties, list: `${properties.id}-list`, "data-kind": "object", placeholder: shown, autocomplete: "off", spellcheck: "false" });
  }
  if (choices.length || kinds[0]?.type === "boolean") {
    const all = choices.length ? choices : [true, false];
    return el("select", { ...properties, "data-kind": choices.length ? "choice" : "json" }, el("option", { value: "" }, usual === undefined || usual === null ? "the server decides" : `${usual} (as usual)`), all.map((one) => el("option", { value: String(one) }, String(one))));
  }
  const [kind] = kinds;
  if (kind?.type === "integer" || kind?.type === "number") {
    return el("input", { ...properties, type: "number", "data-kind": "number", placeholder: shown, min: kind.minimum ?? kind.exclusiveMinimum, max: kind.maximum, step: kind.type === "integer" ? 1 : "any", inputmode: kind.type === "integer" ? "numeric" : "decimal" });
  }
  return el("input", { ...properties, type: "text", "data-kind": "text", placeholder: shown, maxlength: kind?.maxLength && 2 * kind.maxLength, autocomplete: "off", spellcheck: "false" });
}

/** A text as it is typed: line breaks as \n, objects as JSON. */
const written = (value) => (typeof value === "string" ? JSON.stringify(value).slice(1, -1).replaceAll('\\"', '"') : JSON.stringify(value));

const typed = (text) => text.replaceAll("\\n", "\n").replaceAll("\\t", "\t");

const READ = {
  number: (input) => input.valueAsNumber,
  json: (input) => JSON.parse(input.value), // true or false, of a select
  choice: (input) => input.value,
  text: (input) => typed(input.value),
  object: (input) => (/^\s*[{[]/.test(input.value) ? parsed(input) : typed(input.value)),
};

const read = (input) => READ[input.dataset.kind](input);

function parsed(input) {
  try {
    return JSON.parse(input.value);
  } catch {
    throw mistake(input, "this is not JSON.");
  }
}

/** An error that is told at its field, until that is changed. */
function mistake(input, told) {
  settle(input);
  const id = `${input.id}-mistake`;
  input.after(el("p", { id, class: "mistake" }, told));
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-describedby", `${id} ${input.id}-help`);
  return Object.assign(new Error(`${input.dataset.name}: ${told}`), { field: input });
}

function settle(input) {
  $(`${input.id}-mistake`)?.remove();
  input.removeAttribute("aria-invalid");
  input.setAttribute("aria-describedby", `${input.id}-help`);
}

function put(target, input) {
  settle(input);
  if (input.validity.badInput) throw mistake(input, "this is not a number.");
  if (!input.validity.valid) throw mistake(input, input.validationMessage);
  if (input.value === "") return;
  const [name, inner] = input.dataset.name.split(".");
  if (inner) (target[name] ??= {})[inner] = read(input);
  else target[name] = read(input);
}

// Adapters and policies, for administrators: asked for when the panel is opened, with a key of its own where the server has one.

import { call, keyOf, setKey } from "./api.js";
import { $, el, problem } from "./dom.js";

const role = "admin";
const body = () => $("admin").querySelector(".body");

/** Show what there is, or ask for the key. */
export async function open(onChange) {
  body().replaceChildren(el("p", { class: "hint" }, "Asking the server…"));
  try {
    const [adapters, policies] = await Promise.all([
      call("v1/adapters", { role }).catch((error) => { if (error.status === 404) return null; throw error; }),
      call("v1/policies", { role }),
    ]);
    body().replaceChildren(
      el("section", {}, el("h3", {}, "Adapters"), adapters ? held(adapters.slots) : el("p", { class: "hint" }, "This server holds none."), (adapters?.data ?? []).map((one) => adapter(one, onChange))),
      el("section", {}, el("h3", {}, "Policies"), policies.data.length ? policies.data.map((one) => policy(one, onChange)) : el("p", { class: "hint" }, "None: auto follows its prior.")),
      keyOf(role) ? el("button", { type: "button", class: "quiet", onclick: () => { setKey(role, ""); open(onChange); } }, "Forget the key") : "",
    );
  } catch (error) {
    body().replaceChildren(...(error.status === 401 ? [askForKey(error, onChange)] : [problem(error)]));
  }
}

function askForKey(error, onChange) {
  const input = el("input", { id: "admin-key", type: "password", autocomplete: "off", required: true });
  const enter = (event) => {
    event.preventDefault();
    setKey(role, input.value);
    open(onChange);
  };
  return el("form", { onsubmit: enter, "aria-label": "Administration key" },
    keyOf(role) ? problem(error) : "",
    el("label", { for: "admin-key" }, "This needs a key for administration"),
    el("div", { class: "ask" }, input, el("button", { type: "submit", class: "primary" }, "Use it")),
    el("p", { class: "hint" }, "It is kept until this tab is closed, and used for this panel only."));
}

const held = (slots) => el("p", { class: "hint" }, `${slots.held} of ${slots.total} slots of the engine are taken.`);

/** Do it, and show what has come of it. */
const act = (path, options, onChange) => async () => {
  try {
    await call(path, { ...options, role });
    await open(onChange);
    onChange();
  } catch (error) {
    body().prepend(problem(error));
  }
};

function adapter(one, onChange) {
  const path = `v1/adapters/${encodeURIComponent(one.id)}`;
  return el("article", { class: "card", "aria-label": `Adapter ${one.id}` },
    el("div", { class: "head" }, el("h4", {}, one.id), el("span", { class: "tag" }, one.state), remove(`Remove ${one.id}`, act(path, { method: "DELETE" }, onChange))),
    el("ul", { class: "versions" }, one.versions.map((version) => el("li", {},
      el("code", {}, version.version.slice(0, 8)),
      el("span", { class: "hint" }, [version.engine ?? "not in the engine", version.leases ? `${version.leases} in use` : null, version.lost ? "lost" : null].filter(Boolean).join(" · ")),
      version.is_current
        ? el("span", { class: "tag good" }, "served")
        : el("button", { type: "button", class: "quiet small", "aria-label": `Serve version ${version.version.slice(0, 8)} of ${one.id}`, onclick: act(`${path}/activate`, { method: "POST", body: { version: version.version } }, onChange) }, "Serve this one")))));
}

function policy(one, onChange) {
  const path = `v1/policies/${encodeURIComponent(one.model)}/choose`;
  const told = (number) => (number === null ? "none" : number === 0 ? "as shipped" : `number ${number}`);
  const others = [...one.numbers, null].filter((number) => number !== one.current);
  return el("article", { class: "card", "aria-label": `Policy of ${one.model}` },
    el("div", { class: "head" }, el("h4", {}, one.model), el("span", { class: `tag${one.current === null ? "" : " good"}` }, told(one.current))),
    el("div", { class: "row" }, others.map((number) => el("button", { type: "button", class: "quiet small", onclick: act(path, { method: "POST", body: { number } }, onChange) }, number === null ? "Use none" : `Use ${told(number)}`))));
}

/** A button that asks once more. */
function remove(label, onConfirmed) {
  const button = el("button", { type: "button", class: "quiet small danger", "aria-label": label }, "Remove");
  button.addEventListener("click", () => {
    if (button.dataset.sure) return onConfirmed();
    button.dataset.sure = "yes";
    button.textContent = "Really?";
    button.setAttribute("aria-label", `${label}: press again to confirm`);
    return undefined;
  });
  button.addEventListener("blur", () => {
    delete button.dataset.sure;
    button.textContent = "Remove";
    button.setAttribute("aria-label", label);
  });
  return button;
}

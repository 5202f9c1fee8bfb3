// Everything that is asked of the server. Keys live in this tab's session, and go to this server only.

import { events } from "./sse.js";

const KEYS = { api: "ponder.key", admin: "ponder.admin-key" };

export const keyOf = (role) => sessionStorage.getItem(KEYS[role]) ?? "";
export const setKey = (role, key) => (key ? sessionStorage.setItem(KEYS[role], key) : sessionStorage.removeItem(KEYS[role]));

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(status, message, parameter, retryAfter) {
    super(message);
    Object.assign(this, { status, parameter, retryAfter });
  }
}

/** The response; raises `Refusal` unless it is a success. */
async function request(path, { method = "GET", body, signal, role = "api" } = {}) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (keyOf(role)) headers.Authorization = `Bearer ${keyOf(role)}`;
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server cannot be reached. Is it still running?");
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    const error = told.error ?? {};
    throw new Refusal(response.status, error.message ?? `The server answered ${response.status}.`, error.param, response.headers.get("Retry-After"));
  }
  return response;
}

/** The JSON body of a call. */
export const call = async (path, options) => (await request(path, options)).json();

/** A streamed chat: `{traceId, chunks}`. An error in the middle is raised as a `Refusal`. */
export async function chat(body, signal) {
  const response = await request("v1/chat/completions", { method: "POST", body, signal });
  return { traceId: response.headers.get("x-ponder-trace-id"), chunks: checked(events(response.body)) };
}

async function* checked(chunks) {
  for await (const chunk of chunks) {
    if (chunk.error) throw new Refusal(0, chunk.error.message, chunk.error.param);
    yield chunk;
  }
}

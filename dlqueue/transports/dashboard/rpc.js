// Calls of the daemon: JSON-RPC over POST /rpc.
import { headers, refused } from "./session.js";

const PATIENCE = 30000; // milliseconds
const AT_ONCE = 100; // calls in one batch

let last = 0;

export class RpcError extends Error {
  constructor(error) {
    super(error.message);
    this.code = error.code;
    this.kind = error.data?.kind;
    this.field = error.data?.field;
  }
}

const envelope = (method, params) => ({ jsonrpc: "2.0", id: ++last, method, params });

async function post(body) {
  let answer;
  try {
    answer = await fetch("rpc", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers() },
      body: JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new RpcError({ code: 0, message: "the daemon cannot be reached" });
  }
  if (answer.status === 401) {
    refused();
    throw new RpcError({ code: -32001, message: "this token is not accepted" });
  }
  const text = await answer.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new RpcError({ code: 0, message: `the gateway answered ${answer.status}` });
  }
}

function problem(answer) {
  return answer.error ?? { code: 0, message: answer.detail ?? answer.title ?? "the gateway gave no answer" };
}

// The result. Throws RpcError.
export async function call(method, params = {}) {
  const answer = await post(envelope(method, params));
  if (!("result" in answer)) throw new RpcError(problem(answer));
  return answer.result;
}

// For each [method, params]: its result, or the RpcError in its place.
export async function batch(calls) {
  const found = [];
  for (let start = 0; start < calls.length; start += AT_ONCE) {
    const sent = calls.slice(start, start + AT_ONCE).map(([method, params]) => envelope(method, params));
    const answers = await post(sent);
    if (!Array.isArray(answers)) throw new RpcError(problem(answers));
    const byId = new Map(answers.map((answer) => [answer.id, answer]));
    for (const { id } of sent) {
      const answer = byId.get(id) ?? { error: { code: 0, message: "no answer came" } };
      found.push("result" in answer ? answer.result : new RpcError(problem(answer)));
    }
  }
  return found;
}

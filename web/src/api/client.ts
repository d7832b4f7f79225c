/** Requests to the daemon. Its answers are described by docs/openapi.json, from which `types.ts` is generated. */

import { signal } from "@preact/signals";
import { PREFIX } from "../memory.ts";
import { whatIsWrong } from "./answer_shape.ts";
import { format, isObject, type Json, parse } from "./json.ts";
import type { components } from "./types.ts";

export type Answers = components["schemas"];
export type Problem = Answers["Problem"];

/** The token of this tab. It is kept for the tab alone, or for the page; never in an address. */
const TOKEN = `${PREFIX}token`;
export const token = signal(stored());
/** Whether the daemon refused the last request for want of a token, or because the token is not valid. */
export const unauthorized = signal<string | undefined>(undefined);

/** The last answer that this page cannot show, until the same path has one that it can. */
export const unexpected = signal<{ path: string; message: string } | undefined>(undefined);

let refusedPath: string | undefined;

function stored(): string {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return ""; // A browser that denies storage: the token lives in memory.
  }
}

/** Use a token from now on; empty to forget it. Unless it is kept in memory only, the tab has it after a reload, too. */
export function useToken(value: string, { inMemory = false } = {}): void {
  try {
    if (value && !inMemory) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch {}
  unauthorized.value = undefined;
  token.value = value;
}

/** An answer that refuses a request, or the lack of an answer. */
export class RequestError extends Error {
  /** The daemon's code, such as `conflict`; `unreachable` if there was no answer. */
  readonly code: string;
  /** The HTTP status; 0 if there was no answer. */
  readonly status: number;
  readonly problems: Problem[];
  /** The whole answer: a conflict carries the current revision. */
  readonly body: Record<string, unknown>;
  /** After how many seconds the daemon asks to try again; undefined if it does not say. */
  readonly retryAfter: number | undefined;

  constructor(
    code: string,
    status: number,
    message: string,
    problems: Problem[],
    body: Record<string, unknown>,
    retryAfter?: number,
  ) {
    super(message);
    this.code = code;
    this.status = status;
    this.problems = problems;
    this.body = body;
    this.retryAfter = retryAfter;
  }
}

/** Return why something failed, as a refusal: what is none is a fault of this page. */
export function failure(reason: unknown): RequestError {
  return reason instanceof RequestError ? reason : new RequestError("internal", 0, String(reason), [], {});
}

export type Query = Record<string, string | number | boolean | undefined>;
export interface Options {
  query?: Query;
  body?: Json;
  /** The media type of the body; JSON unless it is said. */
  type?: string;
  /** The revision that the write is based on; the daemon refuses it with 412 when there is a newer one. */
  ifMatch?: number;
  /** Another token than that of the tab, to try it. */
  token?: string;
  signal?: AbortSignal;
}

/** Return the address of a path of the daemon, relative to the page, with what is not undefined of the query. */
export function address(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, String(value));
  const text = parameters.toString();
  return path.replace(/^\//, "") + (text && `?${text}`);
}

/** Return the path of a service's configuration or of something below it. */
export function configPath(service: string, below = ""): string {
  return `/config/${encodeURIComponent(service)}${below && `/${below}`}`;
}

export function headers(used = token.peek()): Headers {
  const result = new Headers();
  if (used) result.set("Authorization", `Bearer ${used}`);
  return result;
}

/**
 * Send a request and return its answer, whose numbers are as in `json.ts`.
 *
 * @throws RequestError if the daemon refuses it or cannot be reached, or if the answer is none of this API.
 */
export async function request<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const used = options.token ?? token.peek();
  const sent = headers(used);
  if (options.body !== undefined) sent.set("Content-Type", options.type ?? "application/json");
  if (options.ifMatch !== undefined) sent.set("If-Match", `"${options.ifMatch}"`);
  let response: Response;
  let text: string;
  try {
    response = await fetch(address(path, options.query), {
      method,
      headers: sent,
      cache: "no-store",
      ...(options.body === undefined ? {} : { body: format(options.body) }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    text = await response.text();
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new RequestError(
      "unreachable",
      0,
      "The daemon does not answer. See whether it runs, and whether the network reaches it.",
      [],
      {},
    );
  }
  let body: Json = null;
  try {
    body = parse(text);
  } catch {}
  if (response.ok && !isObject(body)) {
    const message = "The answer is no JSON object; is this the daemon, or a proxy?";
    throw new RequestError("internal", response.status, message, [], {});
  }
  if (response.ok || (isObject(body) && body.status === "success")) {
    const wrong = whatIsWrong(method, path, body);
    if (wrong !== undefined) {
      const message = `The answer to ${method} ${path} is not what this page expects: ${wrong}.`;
      unexpected.value = { path, message };
      throw new RequestError("internal", response.status, message, [], {});
    }
    if (unexpected.peek()?.path === path) unexpected.value = undefined;
    // Some answers need no token, so they do not say that the others are allowed by now.
    if (refusedPath === path && used === token.peek()) unauthorized.value = undefined;
    return body as T;
  }
  const error = refused(response, body, used);
  if (error.code === "unauthorized" && used === token.peek()) refusedPath = path;
  throw error;
}

/** Return the error of an answer that refuses; one for want of a valid token makes the console ask for it. */
export function refused(response: Response, body: Json, used = token.peek()): RequestError {
  const object = isObject(body) ? body : {};
  const message = typeof object.message === "string" ? object.message : `The daemon answered ${response.status}.`;
  const error = new RequestError(
    typeof object.code === "string" ? object.code : "internal",
    response.status,
    message,
    Array.isArray(object.problems) ? object.problems.filter(isProblem) : [],
    object,
    seconds(response.headers.get("Retry-After")),
  );
  if (error.code === "unauthorized" && used === token.peek()) unauthorized.value = message;
  return error;
}

function isProblem(value: unknown): value is Problem {
  return isObject(value) && typeof value.pointer === "string" && typeof value.message === "string";
}

function seconds(text: string | null): number | undefined {
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
}

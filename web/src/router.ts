/** The route of the console: it lies in the hash of the address, so that each state has an address and Back works. */

import { computed, signal } from "@preact/signals";

export interface Route {
  /** The decoded segments of the path: `["services", "voice_router", "history"]`. */
  path: string[];
  query: Record<string, string>;
}

export type RouteQuery = Record<string, string | number | undefined>;

/** Read a hash. Segments are encoded, so that names with `/`, `#` or `%` come back as they are. */
export function parseHash(hash: string): Route {
  const [path = "", query = ""] = splitOnce(hash.replace(/^#/, ""), "?");
  return {
    path: path.split("/").filter(Boolean).map(decode),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

/** Return the address of a route, for the `href` of a link. */
export function href(path: readonly string[], query: RouteQuery = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text && `?${text}`}`;
}

const hash = signal(globalThis.location?.hash ?? "");
export const route = computed(() => parseHash(hash.value));

/** Go to a route. `replace` leaves no entry in the history: for what is typed, such as a search. */
export function navigate(to: string, { replace = false } = {}): void {
  if (replace) history.replaceState(history.state, "", to);
  else if (to !== location.hash) history.pushState(null, "", to);
  hash.value = location.hash;
}

/** How many entries of the history, up to the present one, lie on each other since `enter`; 0 if none does. */
function depth(): number {
  const kept: unknown = history.state;
  const over = kept !== null && typeof kept === "object" && "over" in kept ? kept.over : 0;
  return typeof over === "number" ? over : 0;
}

/** The members of the query that are left as soon as the history has moved. */
let leaving: readonly string[] | undefined;

/** Show something over what the route shows, such as a dialog: Back and `leave` lead back to it, also after a reload. */
export function enter(changes: RouteQuery): void {
  const to = href(route.peek().path, { ...route.peek().query, ...changes });
  if (to !== location.hash) history.pushState({ over: depth() + 1 }, "", to);
  hash.value = location.hash;
}

/** Leave what `enter` showed with these members of the query, or with what the page was loaded. */
export function leave(...names: string[]): void {
  // The history moves a little later; a second press must not move it once more.
  if (leaving !== undefined) return;
  const { query } = route.peek();
  const levels = Math.min(depth(), names.filter((name) => name in query).length);
  if (levels === 0) drop(names);
  else {
    leaving = names;
    history.go(-levels);
  }
}

/** Remove members of the query that are there. */
function drop(names: readonly string[]): void {
  if (!names.some((name) => name in route.peek().query)) return;
  changeQuery(Object.fromEntries(names.map((name) => [name, undefined])));
}

/** Change members of the present route's query; undefined or "" removes one. */
export function changeQuery(changes: RouteQuery, { replace = true } = {}): void {
  navigate(href(route.value.path, { ...route.value.query, ...changes }), { replace });
}

export function startRouter(): void {
  const follow = () => {
    hash.value = location.hash;
    const left = leaving;
    leaving = undefined;
    if (left !== undefined) drop(left);
  };
  window.addEventListener("hashchange", follow);
  window.addEventListener("popstate", follow);
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // Somebody typed a stray "%".
  }
}

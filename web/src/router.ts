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

/** Change members of the present route's query; undefined or "" removes one. */
export function changeQuery(changes: RouteQuery, { replace = true } = {}): void {
  navigate(href(route.value.path, { ...route.value.query, ...changes }), { replace });
}

export function startRouter(): void {
  const follow = () => {
    hash.value = location.hash;
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

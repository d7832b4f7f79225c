/**
 * What the screens show of the daemon: each resource is loaded once, shared, and loaded again when an event says that it
 * changed.
 */

import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { RequestError, token } from "../api/client.ts";
import { listen, type ServerEvent } from "../api/event_stream.ts";
import { isObject } from "../api/json.ts";

export interface Loaded<T> {
  /** The last answer; it stays while a newer one is loaded, and when that fails. */
  data?: T;
  /** Why the last attempt failed. */
  error?: RequestError;
  loading: boolean;
}

type Load<T> = (signal: AbortSignal) => Promise<T>;

/** Loading again waits so long after the previous time, so that many changes in a row cost few requests. */
const SHORTEST_INTERVAL_MS = 700;
const KEPT_WITHOUT_USE = 60;

class Resource<T> {
  readonly state: Signal<Loaded<T>> = signal({ loading: true });
  readonly topics: readonly string[];
  users = 0;
  readonly #load: Load<T>;
  #running: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #loadedAt = Number.NEGATIVE_INFINITY;
  #stale = true;

  constructor(load: Load<T>, topics: readonly string[]) {
    this.#load = load;
    this.topics = topics;
  }

  /** Load it if it is not loaded or out of date. */
  need(): void {
    if (this.#stale) this.#schedule();
  }

  /** Note that it is out of date; load it again now if a screen shows it. */
  invalidate(): void {
    this.#stale = true;
    if (this.users > 0) this.#schedule();
  }

  /** Drop what was loaded, and load it again now if a screen shows it. */
  forget(): void {
    this.#running?.abort();
    this.#loadedAt = Number.NEGATIVE_INFINITY;
    this.state.value = { loading: true };
    this.invalidate();
  }

  /** Load it now. */
  async refresh(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    this.#stale = false;
    this.#loadedAt = performance.now();
    this.state.value = { ...this.state.peek(), loading: true };
    try {
      const data = await this.#load(running.signal);
      if (!running.signal.aborted) this.state.value = { data, loading: false };
    } catch (error) {
      if (running.signal.aborted) return;
      this.#stale = true;
      const { data } = this.state.peek();
      const why = error instanceof RequestError ? error : new RequestError("internal", 0, String(error), [], {});
      this.state.value = { ...(data === undefined ? {} : { data }), error: why, loading: false };
    }
  }

  #schedule(): void {
    if (this.#timer !== undefined) return;
    const wait = Math.max(0, this.#loadedAt + SHORTEST_INTERVAL_MS - performance.now());
    this.#timer = setTimeout(() => void this.refresh(), wait);
  }
}

const resources = new Map<string, Resource<unknown>>();

function find<T>(key: string, load: Load<T>, topics: readonly string[]): Resource<T> {
  const found = resources.get(key);
  if (found !== undefined) return found as unknown as Resource<T>;
  for (const [old, { users }] of resources) {
    if (resources.size < KEPT_WITHOUT_USE) break;
    if (users === 0) resources.delete(old);
  }
  const made = new Resource<T>(load, topics);
  resources.set(key, made as unknown as Resource<unknown>);
  return made;
}

/**
 * Use a resource in a component, which is rendered again whenever it changes.
 *
 * @param key Names the resource: the same key is the same resource, so everything that `load` depends on is part of it.
 * @param topics The kinds of events after which it is loaded again: `change` for any, `change:<service>` for one service.
 */
export function useResource<T>(
  key: string,
  load: Load<T>,
  topics: readonly string[],
): Loaded<T> & { refresh(): Promise<void> } {
  const resource = useMemo(() => find(key, load, topics), [key]);
  useEffect(() => {
    resource.users += 1;
    resource.need();
    return () => {
      resource.users -= 1;
    };
  }, [resource]);
  return { ...resource.state.value, refresh: () => resource.refresh() };
}

/** Note that everything about some topics is out of date, as after a write of this page. */
export function invalidate(...topics: string[]): void {
  for (const resource of resources.values()) {
    if (resource.topics.some((topic) => topics.includes(topic))) resource.invalidate();
  }
}

/** Note that everything may be out of date. */
export function invalidateAll(): void {
  for (const resource of resources.values()) resource.invalidate();
}

type Receiver = (event: ServerEvent) => void;
const receivers = new Set<Receiver>();

/** Call back with each event of the stream; returns a function that ends it. */
export function onEvent(receive: Receiver): () => void {
  receivers.add(receive);
  return () => receivers.delete(receive);
}

/** Listen to the daemon for as long as the page lives. */
export function startEvents(): void {
  listen(receive);
  let first = true;
  token.subscribe(() => {
    // Another caller may see other things, and must not see what this one saw.
    if (!first) for (const resource of resources.values()) resource.forget();
    first = false;
  });
}

function receive(event: ServerEvent): void {
  if (event.kind === "reset" || event.kind === "reconnected") invalidateAll();
  else {
    const service = isObject(event.data) && typeof event.data.service === "string" ? event.data.service : undefined;
    invalidate(event.kind, ...(service === undefined ? [] : [`${event.kind}:${service}`]));
  }
  for (const receiver of receivers) receiver(event);
}

/**
 * What the screens show of the daemon: each resource is loaded once, shared, and loaded again when an event says that it
 * changed.
 */

import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { failure, type RequestError, token, unauthorized } from "../api/client.ts";
import { connection, listen, type ServerEvent } from "../api/event_stream.ts";
import { isEqual, isObject, type Json } from "../api/json.ts";

export interface Loaded<T> {
  /** The last answer; it stays while a newer one is loaded, and when that fails. */
  data?: T;
  /** Why the last attempt failed. */
  error?: RequestError;
  loading: boolean;
}

type Load<T> = (signal: AbortSignal) => Promise<T>;
/** Returns what was loaded as it is after an event; undefined if it has to be loaded again. */
type Patch<T> = (event: ServerEvent, data: T) => T | undefined;

/** Loading again waits so long after the previous time, so that many changes in a row cost few requests. */
const SHORTEST_INTERVAL_MS = 700;
const KEPT_WITHOUT_USE = 60;
/** A load that takes longer than this is given up when it is out of date; a connection may have died without a word. */
const LONGEST_LOAD_MS = 10_000;
/** What the daemon could not answer is asked for again after so long. */
const RETRY_MS = 4_000;
/** So often everything shown is loaded again while there is no stream of events. */
const POLL_MS = 15_000;
const TRANSIENT: readonly string[] = ["unreachable", "unavailable", "busy", "internal"];

class Resource<T> {
  readonly state: Signal<Loaded<T>> = signal({ loading: true });
  readonly topics: readonly string[];
  users = 0;
  readonly #load: Load<T>;
  readonly #patch: Patch<T> | undefined;
  #running: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #loadedAt = Number.NEGATIVE_INFINITY;
  #stale = true;

  constructor(load: Load<T>, topics: readonly string[], patch: Patch<T> | undefined) {
    this.#load = load;
    this.topics = topics;
    this.#patch = patch;
  }

  /** Load it if it is not loaded or out of date. */
  need(): void {
    if (this.#stale) this.#schedule();
  }

  /** Note that what was loaded so far is out of date; what is only about to be loaded is not. */
  invalidateLoaded(): void {
    if (this.#loadedAt !== Number.NEGATIVE_INFINITY) this.invalidate();
  }

  /** Note that it is out of date; load it again now if a screen shows it. */
  invalidate(): void {
    this.#stale = true;
    if (this.users > 0) this.#schedule();
  }

  /** Note an event that concerns it. What is being loaded may be from before the event, so it is loaded once more. */
  receive(event: ServerEvent): void {
    const { data, loading } = this.state.peek();
    if (this.#patch === undefined || data === undefined || loading || this.#stale) this.invalidate();
    else this.change((before) => this.#patch?.(event, before));
  }

  /** Change what was loaded; undefined loads it again. */
  change(change: (data: T) => T | undefined): void {
    const before = this.state.peek();
    if (before.data === undefined) return;
    const data = change(before.data);
    if (data === undefined) this.invalidate();
    else if (data !== before.data) this.state.value = { ...before, data };
  }

  /** Load it again if the last attempt failed. */
  retry(): void {
    if (this.state.peek().error === undefined) return;
    this.#unschedule();
    this.invalidate();
  }

  /** Drop what was loaded, and load it again now if a screen shows it. */
  forget(): void {
    this.#unschedule();
    this.#running?.abort();
    this.#loadedAt = Number.NEGATIVE_INFINITY;
    this.state.value = { loading: true };
    this.invalidate();
  }

  /** Load it now. */
  async refresh(): Promise<void> {
    this.#unschedule();
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    this.#stale = false;
    this.state.value = { ...this.state.peek(), loading: true };
    await listening;
    if (running.signal.aborted) return;
    this.#loadedAt = performance.now();
    try {
      const data = await this.#load(running.signal);
      if (running.signal.aborted) return;
      this.state.value = { data, loading: false };
      if (this.#stale) this.#loadAgain();
    } catch (error) {
      if (running.signal.aborted) return;
      const wasStale = this.#stale;
      this.#stale = true;
      const { data, error: before } = this.state.peek();
      const why = failure(error);
      // The same failure of a repeated attempt is announced once.
      const said = before !== undefined && isSameRefusal(before, why) ? before : why;
      this.state.value = { ...(data === undefined ? {} : { data }), error: said, loading: false };
      if (TRANSIENT.includes(why.code)) this.#loadAgain(RETRY_MS);
      else if (wasStale) this.#loadAgain();
    }
  }

  /** Load it again after the load that has just ended, if a screen shows it. */
  #loadAgain(after?: number): void {
    this.#unschedule();
    if (this.users > 0) this.#schedule(after);
  }

  #unschedule(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(shortest = SHORTEST_INTERVAL_MS): void {
    if (this.#timer !== undefined) return;
    // A load ends before the next one begins: were it given up at each change, one that takes long would never end.
    const pause = this.state.peek().loading ? LONGEST_LOAD_MS : shortest;
    const wait = Math.max(0, this.#loadedAt + pause - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // Nobody may look at it any more: then it waits until somebody does.
      if (this.users > 0) void this.refresh();
    }, wait);
  }
}

function isSameRefusal(one: RequestError, other: RequestError): boolean {
  return one.code === other.code && one.message === other.message && isEqual(one.problems, other.problems);
}

const resources = new Map<string, Resource<unknown>>();

/** The first loads wait until the stream of events has begun, but not longer than this. */
const LISTENING_MS = 250;
let nowListening: () => void = () => {};
/**
 * Resolved when the stream of events has begun, or there is none: an event tells of what changes after a load that begins
 * later, so that nothing need be loaded twice.
 */
const listening = new Promise<void>((resolve) => {
  nowListening = resolve;
});

/** Return the resource of a key; it is made with the first call. */
export function resourceOf<T>(key: string, load: Load<T>, topics: readonly string[], patch?: Patch<T>): Resource<T> {
  const found = resources.get(key);
  if (found !== undefined) {
    // The one that was used last is the last to be dropped: it has no user before its component is shown.
    resources.delete(key);
    resources.set(key, found);
    return found as unknown as Resource<T>;
  }
  for (const [old, { users }] of resources) {
    if (resources.size < KEPT_WITHOUT_USE) break;
    if (users === 0) resources.delete(old);
  }
  const made = new Resource<T>(load, topics, patch);
  resources.set(key, made as unknown as Resource<unknown>);
  return made;
}

/**
 * Use a resource in a component, which is rendered again whenever it changes.
 *
 * @param key Names the resource: the same key is the same resource, so everything that `load` depends on is part of it.
 * @param topics The kinds of events after which it is loaded again: `change` for any, `change:<service>` for one service.
 * @param patch Spares loading: what the event says is all that is new.
 */
export function useResource<T>(
  key: string,
  load: Load<T>,
  topics: readonly string[],
  patch?: Patch<T>,
): Loaded<T> & { refresh(): Promise<void> } {
  const resource = useMemo(() => resourceOf(key, load, topics, patch), [key]);
  useEffect(() => {
    resource.users += 1;
    resource.need();
    return () => {
      resource.users -= 1;
    };
  }, [resource]);
  return { ...resource.state.value, refresh: () => resource.refresh() };
}

let visits = 0;

/** Return a number of its own for as long as a component is shown: in a key, it keeps out what an earlier visit saw. */
export function useVisit(): number {
  return useMemo(() => {
    visits += 1;
    return visits;
  }, []);
}

/** Note that everything about some topics is out of date, as after a write of this page. */
export function invalidate(...topics: string[]): void {
  for (const resource of resources.values()) {
    if (resource.topics.some((topic) => topics.includes(topic))) resource.invalidate();
  }
}

/** Change what was loaded under a key, if it was; undefined loads it again. */
export function changeResource<T>(key: string, change: (data: T) => T | undefined): void {
  (resources.get(key) as unknown as Resource<T> | undefined)?.change(change);
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
  setTimeout(nowListening, LISTENING_MS);
  let first = true;
  token.subscribe(() => {
    // Another caller may see other things, and must not see what this one saw.
    if (!first) forgetAll();
    first = false;
  });
  connection.subscribe((state) => {
    if (state === "lost" || state === "refused") nowListening();
    if (state === "live") for (const resource of resources.values()) resource.retry();
  });
  setInterval(() => {
    if (connection.value === "refused" && unauthorized.value === undefined && !document.hidden) invalidateAll();
  }, POLL_MS);
}

/** The last state of each kind that the daemon sends when it changes, and each time that a stream begins. */
const heard = new Map<string, Json>([
  ["health", null],
  ["files", null],
  ["drift", null],
  ["online", null],
]);
/** The active environment, as the daemon named it last; undefined before it did. */
let active: Json | undefined;
/** The home that the daemon serves, as it named it last: after it another one may be started at the same address. */
let home: Json | undefined;
/** The kinds of which this stream has sent a state. */
const sent = new Set<string>();
let isResumed = false;
/**
 * What may have changed between two streams without an event: kinds that no stream begins with, and the counters and the
 * running time in the health, which are others after a restart.
 */
const NEWS: readonly string[] = ["instances", "tokens", "audit", "health"];

/** Drop everything that was heard and loaded. */
function forgetAll(): void {
  for (const kind of heard.keys()) heard.set(kind, null);
  for (const resource of resources.values()) resource.forget();
}

/** Return an event as the page needs it. After the events of another home, whose ids look alike, no stream goes on. */
function ofThisHome(event: ServerEvent): ServerEvent {
  if (event.kind !== "hello" || !isObject(event.data)) return event;
  const before = home;
  home = event.data.instance;
  if (before === undefined || before === home) return event;
  forgetAll();
  return { ...event, data: { ...event.data, resumed: false } };
}

/** Take an event of the stream: load again what it makes out of date. */
export function receive(received: ServerEvent): void {
  const event = ofThisHome(received);
  const data = isObject(event.data) ? event.data : {};
  if (event.kind === "hello") {
    sent.clear();
    isResumed = data.resumed === true;
    // A daemon that started meanwhile tells what changed since, but not that another environment was activated.
    const isActivated = active !== undefined && active !== data.environment;
    active = data.environment;
    for (const resource of resources.values()) {
      const isMissed =
        !isResumed ||
        resource.topics.some(
          (topic) => NEWS.includes(topic.split(":", 1)[0] ?? "") || (isActivated && topic === "environment"),
        );
      if (isMissed) resource.invalidateLoaded();
    }
    nowListening();
  } else if (event.kind === "reset" || event.kind === "reconnected") invalidateAll();
  else if (!isKnown(event)) {
    if (event.kind === "environment") active = data.environment;
    const service = typeof data.service === "string" ? data.service : undefined;
    const topics = [event.kind, ...(service === undefined ? [] : [`${event.kind}:${service}`])];
    for (const resource of resources.values()) {
      if (resource.topics.some((topic) => topics.includes(topic))) resource.receive(event);
    }
  }
  for (const receiver of receivers) receiver(event);
}

/** Whether an event is a state with which a stream begins, and which what is loaded has already. */
function isKnown({ kind, data }: ServerEvent): boolean {
  const before = heard.get(kind);
  if (before === undefined) return false;
  const isFirst = !sent.has(kind);
  sent.add(kind);
  // Later ones of this kind name only the services that changed, so the last one is no whole state.
  if (kind !== "online" || isFirst) heard.set(kind, data);
  else heard.set(kind, null);
  if (!isFirst) return false;
  // These two are always sent, and what was loaded before a stream that is not resumed is loaded again anyway.
  return isEqual(before, data) || (!isResumed && (kind === "health" || kind === "files"));
}

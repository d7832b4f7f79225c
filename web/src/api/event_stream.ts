/**
 * The stream of `GET /events` (server-sent events, WHATWG HTML §9.2), read with `fetch`, so that it can carry a token.
 */

import { signal } from "@preact/signals";
import { channelOf } from "../memory.ts";
import { address, headers, RequestError, refused, token } from "./client.ts";
import { type Json, parse } from "./json.ts";
import { StreamPlaces } from "./stream_places.ts";

export interface ServerEvent {
  /** The kind of the event, such as `change`. */
  kind: string;
  id: string | undefined;
  data: Json;
}

/** Whether the page hears of changes: `live`, `connecting`, or why it does not. */
export const connection = signal<"connecting" | "live" | "lost" | "refused">("connecting");
/** The daemon's code, such as `busy`, while the connection is `refused`; `tabs` if other tabs have all streams. */
export const refusal = signal<string | undefined>(undefined);

const SILENCE_MS = 40_000;
const HIDDEN_MS = 15_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
/** Whoever is refused stays refused until somebody enters another token, or changes the rules. */
const REFUSED_DELAY_MS = 60_000;
const ASK_TABS_MS = 60_000;

/** Split the lines of an event stream into events. */
export class EventParser {
  #rest = "";
  #kind = "";
  #data: string[] = [];
  #id: string | undefined;

  /** Take more of the stream's text, and return the events that it completes. */
  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0)
          events.push({ kind: this.#kind || "message", id: this.#id, data: parse(this.#data.join("\n")) });
        this.#kind = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      if (colon === 0) continue; // A comment, which the daemon sends to keep the connection open.
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "event") this.#kind = value;
      else if (name === "data") this.#data.push(value);
      else if (name === "id") this.#id = value;
    }
    return events;
  }
}

let places = new StreamPlaces(undefined);

/** Return what connects the tabs of all pages of this origin, whose connections the browser counts together. */
function channel(): BroadcastChannel | undefined {
  const [page] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  // With HTTP/2 or 3, as behind a proxy, one connection carries all streams.
  return /^h[23]/.test(page?.nextHopProtocol ?? "") ? undefined : channelOf("aliciacfg event streams");
}

/** Have the tab that is used last be one of those with a stream. */
function watchUse(stopping: AbortSignal): void {
  const use = () => {
    if (!document.hidden) places.use();
  };
  use();
  window.addEventListener("focus", use, { signal: stopping });
  document.addEventListener("visibilitychange", use, { signal: stopping });
  window.addEventListener("pageshow", use, { signal: stopping });
  window.addEventListener("pagehide", () => places.leave(), { signal: stopping });
  const timer = setInterval(() => places.ask(), ASK_TABS_MS);
  stopping.addEventListener("abort", () => clearInterval(timer));
}

/**
 * Read the stream until the returned function is called; connect again, from the last event on, when it ends.
 *
 * A tab that nobody looks at closes it after a while, and so does one of several where others were used later: a browser
 * opens few connections to one daemon for all its tabs.
 *
 * @param receive Is called with each event; and with the kind `reconnected` when events may have been missed.
 */
export function listen(receive: (event: ServerEvent) => void): () => void {
  const stopping = new AbortController();
  places = new StreamPlaces(channel());
  watchUse(stopping.signal);
  void run(receive, stopping.signal);
  return () => stopping.abort();
}

async function run(receive: (event: ServerEvent) => void, stopping: AbortSignal): Promise<void> {
  let lastId: string | undefined;
  let delay = FIRST_DELAY_MS;
  let connected = false;
  while (!stopping.aborted) {
    await shown(stopping);
    if (!places.hasPlace.value) {
      refusal.value = "tabs";
      connection.value = "refused";
      await placed(stopping);
      continue;
    }
    const attempt = new Attempt(stopping);
    try {
      const body = await open(lastId, attempt.signal);
      connection.value = "live";
      delay = FIRST_DELAY_MS;
      if (connected && lastId === undefined) receive({ kind: "reconnected", id: undefined, data: null });
      connected = true;
      const parser = new EventParser();
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        attempt.heard();
        for (const event of parser.push(value)) {
          lastId = event.id ?? lastId;
          receive(event);
        }
      }
      connection.value = "lost";
    } catch (error) {
      const refused = error instanceof RequestError && error.status > 0;
      refusal.value = refused ? error.code : undefined;
      connection.value = refused ? "refused" : "lost";
      if (refused && (error.status === 401 || error.status === 403)) delay = REFUSED_DELAY_MS;
      else if (refused && error.retryAfter !== undefined) delay = Math.max(delay, error.retryAfter * 1000);
    } finally {
      attempt.end();
    }
    if (attempt.deliberate) {
      connection.value = "connecting";
      continue;
    }
    await pause(delay * (0.5 + Math.random()), stopping);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

/**
 * Open the stream and return its bytes.
 *
 * @throws RequestError if the daemon refuses; what `fetch` throws if it cannot be reached.
 */
async function open(lastId: string | undefined, signal: AbortSignal): Promise<ReadableStream<BufferSource>> {
  const sent = headers();
  sent.set("Accept", "text/event-stream");
  if (lastId !== undefined) sent.set("Last-Event-ID", lastId);
  const response = await fetch(address("/events"), { headers: sent, cache: "no-store", signal });
  if (response.ok && response.body !== null) return response.body;
  const text = await response.text();
  let body: Json = null;
  try {
    body = parse(text);
  } catch {}
  throw refused(response, body);
}

/**
 * One connection: it ends when the token changes, the tab stays hidden, others need the place, the daemon falls silent, or
 * all is over.
 */
class Attempt {
  /** Whether it ended for a reason of this page, so that the next one need not wait. */
  deliberate = false;
  readonly #controller = new AbortController();
  readonly #stopping: AbortSignal;
  readonly #unsubscribe: (() => void)[];
  #silence: ReturnType<typeof setTimeout> | undefined;
  #hidden: ReturnType<typeof setTimeout> | undefined;

  constructor(stopping: AbortSignal) {
    this.#stopping = stopping;
    this.#unsubscribe = [
      onTokenChange(() => this.#abort(true)),
      places.hasPlace.subscribe((has) => {
        if (!has) this.#abort(true);
      }),
    ];
    stopping.addEventListener("abort", this.#stop);
    document.addEventListener("visibilitychange", this.#visibility);
    this.#visibility();
    this.heard();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Note that something came: the daemon sends a comment when there is no event for a while. */
  heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#abort(false), SILENCE_MS);
  }

  end(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#hidden);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#stopping.removeEventListener("abort", this.#stop);
    document.removeEventListener("visibilitychange", this.#visibility);
    this.#controller.abort();
  }

  readonly #stop = () => this.#abort(true);

  readonly #visibility = () => {
    clearTimeout(this.#hidden);
    if (!document.hidden) return;
    this.#hidden = setTimeout(() => {
      places.leave();
      this.#abort(true);
    }, HIDDEN_MS);
  };

  #abort(deliberate: boolean): void {
    this.deliberate = deliberate;
    this.#controller.abort();
  }
}

/** Call back when the token changes: a stream belongs to the one that it was opened with. */
function onTokenChange(changed: () => void): () => void {
  let first = true;
  return token.subscribe(() => {
    if (!first) changed();
    first = false;
  });
}

/** Wait until somebody looks at the tab. */
function shown(stopping: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !stopping.aborted) return;
      document.removeEventListener("visibilitychange", look);
      stopping.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    stopping.addEventListener("abort", look);
    look();
  });
}

/** Wait until this tab is one of those that may have a stream. */
function placed(stopping: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const unsubscribe = places.hasPlace.subscribe((has) => {
      if (has) end();
    });
    stopping.addEventListener("abort", end);
    function end(): void {
      // The first call comes before `subscribe` returns.
      queueMicrotask(() => unsubscribe());
      stopping.removeEventListener("abort", end);
      resolve();
    }
  });
}

/** Wait, but no longer than until the network is back, the tab is looked at again, or the token changes. */
function pause(milliseconds: number, stopping: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const unsubscribe = onTokenChange(() => end());
    const timer = setTimeout(end, milliseconds);
    window.addEventListener("online", end);
    document.addEventListener("visibilitychange", end);
    stopping.addEventListener("abort", end);
    function end(): void {
      clearTimeout(timer);
      unsubscribe();
      window.removeEventListener("online", end);
      document.removeEventListener("visibilitychange", end);
      stopping.removeEventListener("abort", end);
      resolve();
    }
  });
}

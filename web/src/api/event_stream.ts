/**
 * The stream of `GET /events` (server-sent events, WHATWG HTML §9.2), read with `fetch`, so that it can carry a token.
 */

import { signal } from "@preact/signals";
import { address, headers, refused, token } from "./client.ts";
import { type Json, parse } from "./json.ts";

export interface ServerEvent {
  /** The kind of the event, such as `change`. */
  kind: string;
  id: string | undefined;
  data: Json;
}

/** Whether the page hears of changes: `live`, `connecting`, or why it does not. */
export const connection = signal<"connecting" | "live" | "lost" | "refused">("connecting");

const SILENCE_MS = 40_000;
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;

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

/**
 * Read the stream until the returned function is called; connect again, from the last event on, when it ends.
 *
 * @param receive Is called with each event; and with the kind `reconnected` when events may have been missed.
 */
export function listen(receive: (event: ServerEvent) => void): () => void {
  const stopping = new AbortController();
  void run(receive, stopping.signal);
  return () => stopping.abort();
}

async function run(receive: (event: ServerEvent) => void, stopping: AbortSignal): Promise<void> {
  let lastId: string | undefined;
  let delay = FIRST_DELAY_MS;
  let connected = false;
  while (!stopping.aborted) {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    stopping.addEventListener("abort", abort);
    const unsubscribe = subscribeToToken(abort);
    let silence = setTimeout(abort, SILENCE_MS);
    try {
      const sent = headers();
      sent.set("Accept", "text/event-stream");
      if (lastId !== undefined) sent.set("Last-Event-ID", lastId);
      const response = await fetch(address("/events"), { headers: sent, cache: "no-store", signal: attempt.signal });
      if (!response.ok || response.body === null) {
        const text = await response.text();
        let body: Json = null;
        try {
          body = parse(text);
        } catch {}
        connection.value = "refused";
        throw refused(response, body);
      }
      connection.value = "live";
      delay = FIRST_DELAY_MS;
      if (connected && lastId === undefined) receive({ kind: "reconnected", id: undefined, data: null });
      connected = true;
      const parser = new EventParser();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(silence);
        silence = setTimeout(abort, SILENCE_MS);
        for (const event of parser.push(decoder.decode(value, { stream: true }))) {
          lastId = event.id ?? lastId;
          receive(event);
        }
      }
    } catch {
      // Whatever ended it, the next attempt tells.
    } finally {
      clearTimeout(silence);
      unsubscribe();
      stopping.removeEventListener("abort", abort);
    }
    if (stopping.aborted) return;
    if (connection.value !== "refused") connection.value = "lost";
    await pause(delay * (0.5 + Math.random()), stopping);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

/** Call back when the token changes: the stream belongs to the one that it was opened with. */
function subscribeToToken(changed: () => void): () => void {
  let first = true;
  return token.subscribe(() => {
    if (!first) changed();
    first = false;
  });
}

/** Wait, but no longer than until the network is back, the tab is looked at again, or the token changes. */
function pause(milliseconds: number, stopping: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const unsubscribe = subscribeToToken(end);
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

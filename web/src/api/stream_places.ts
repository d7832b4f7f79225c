/**
 * Which tabs have a stream of events. Each takes one of the six connections that a browser opens to one daemon for all of
 * its tabs (HTTP/1.1), so only the tabs that were used last have one; the others poll. What would elect them,
 * `navigator.locks`, is missing without HTTPS.
 */

import { signal } from "@preact/signals";
import { isObject } from "./json.ts";

/** So many tabs have a stream; half of the connections are left for requests. */
const MOST = 3;
/** So long the others may take to answer. */
const ANSWER_MS = 500;

/** As much of a `BroadcastChannel` as is needed. */
export interface Channel {
  postMessage(message: unknown): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

export class StreamPlaces {
  /** Whether this tab may have a stream. */
  readonly hasPlace = signal(true);
  readonly #id = `${Math.random()}`;
  readonly #channel: Channel | undefined;
  /** When each other tab that is looked at was used last. */
  readonly #others = new Map<string, number>();
  /** When this tab was used last; 0 while nobody looks at it. */
  #used = 0;
  #asks = false;

  /** @param channel Connects the tabs; undefined where each may have a stream. */
  constructor(channel: Channel | undefined) {
    this.#channel = channel;
    if (channel !== undefined) channel.onmessage = ({ data }) => this.#receive(data);
  }

  /** Note that somebody uses this tab: it is the last one of all. */
  use(): void {
    this.#used = Math.max(Date.now(), ...this.#others.values()) + 1;
    this.#tell(true);
    this.#judge();
  }

  /** Note that nobody looks at this tab any more. */
  leave(): void {
    this.#used = 0;
    this.#tell(false);
  }

  /** Ask the other tabs anew, if this one has no place: one that crashed did not say so. */
  ask(): void {
    if (this.hasPlace.peek()) return;
    this.#asks = true;
    this.#others.clear();
    this.#tell(true);
    setTimeout(() => {
      this.#asks = false;
      this.#judge();
    }, ANSWER_MS);
  }

  #tell(asks: boolean): void {
    this.#channel?.postMessage({ id: this.#id, used: this.#used, asks });
  }

  /** Take what another tab told; other pages of this origin may send anything. */
  #receive(data: unknown): void {
    if (!isObject(data) || typeof data.id !== "string" || typeof data.used !== "number") return;
    if (data.used > 0) this.#others.set(data.id, data.used);
    else this.#others.delete(data.id);
    if (data.asks === true && this.#used > 0) this.#tell(false);
    if (!this.#asks) this.#judge();
  }

  #judge(): void {
    const later = [...this.#others].filter(
      ([id, used]) => used > this.#used || (used === this.#used && id > this.#id),
    ).length;
    this.hasPlace.value = later < MOST;
  }
}

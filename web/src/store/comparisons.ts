/** The comparisons of all services of two environments: few at a time, each again when its service changes. */

import { type Signal, signal } from "@preact/signals";
import type { Answers } from "../api/client.ts";

/** What a list shows of a comparison; its values are read again when somebody opens it. */
export interface Summary {
  /** How many places have other values, and how many only one side has. */
  changed: number;
  onlyFirst: number;
  onlySecond: number;
  /** How many secrets of the first side the second one has not. */
  lacking: number;
  /** The environments that yield no valid configuration of the service. */
  invalid: string[];
}

export type Comparison =
  | { kind: "waiting" }
  | { kind: "compared"; summary: Summary }
  | { kind: "failed"; message: string };

type Compare = (service: string, signal: AbortSignal) => Promise<Answers["CompareAnswer"]>;

const WAITING: Comparison = { kind: "waiting" };
/** Browsers open six connections to a host; one of them holds the events, and one is for what a person does. */
const AT_A_TIME = 4;
/** The list is rendered so often while comparisons come in. */
const INTERVAL_MS = 200;

function summarize(answer: Answers["CompareAnswer"]): Summary {
  return {
    changed: Object.keys(answer.changed).length,
    onlyFirst: Object.keys(answer.only_in_env1).length,
    onlySecond: Object.keys(answer.only_in_env2).length,
    lacking: answer.lacking_secrets?.length ?? 0,
    invalid: Object.keys(answer.problems ?? {}),
  };
}

export function differs({ changed, onlyFirst, onlySecond, invalid }: Summary): boolean {
  return changed + onlyFirst + onlySecond + invalid.length > 0;
}

export class Comparisons {
  /** Rises when results came in, so that a list that reads it is rendered again. */
  readonly version: Signal<number> = signal(0);
  readonly #compare: Compare;
  readonly #found = new Map<string, Comparison>();
  /** The services that have to be compared, in this order. */
  #queue = new Set<string>();
  readonly #running = new Map<string, AbortController>();
  #wanted: readonly string[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #active = false;

  constructor(compare: Compare) {
    this.#compare = compare;
  }

  of(service: string): Comparison {
    return this.#found.get(service) ?? WAITING;
  }

  /** Compare these services, those that are not compared yet, in this order; until `pause`. */
  want(services: readonly string[]): void {
    this.#active = true;
    this.#wanted = services;
    this.#queue = new Set(
      services.filter((name) => this.#queue.has(name) || (!this.#found.has(name) && !this.#running.has(name))),
    );
    this.#next();
  }

  /** Begin no further comparison until something is wanted again. */
  pause(): void {
    this.#active = false;
    for (const controller of this.#running.values()) controller.abort();
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Note that comparisons are out of date; what is shown of them stays until there are newer ones. */
  renew(isStale: (service: string, found: Comparison) => boolean): void {
    for (const service of this.#wanted) {
      if (!isStale(service, this.of(service))) continue;
      this.#running.get(service)?.abort();
      this.#queue.add(service);
    }
    this.#next();
  }

  #next(): void {
    if (!this.#active) return;
    for (const service of this.#queue) {
      if (this.#running.size >= AT_A_TIME) return;
      if (this.#running.has(service)) continue; // The one before is not over, though it was ended.
      this.#queue.delete(service);
      void this.#run(service);
    }
  }

  async #run(service: string): Promise<void> {
    const controller = new AbortController();
    this.#running.set(service, controller);
    try {
      const answer = await this.#compare(service, controller.signal);
      if (!controller.signal.aborted) this.#found.set(service, { kind: "compared", summary: summarize(answer) });
    } catch (error) {
      if (!controller.signal.aborted) {
        this.#found.set(service, { kind: "failed", message: error instanceof Error ? error.message : String(error) });
      }
    } finally {
      this.#running.delete(service);
      if (controller.signal.aborted) this.#queue.add(service);
      else this.#notify();
      this.#next();
    }
  }

  #notify(): void {
    if (this.#running.size === 0 && this.#queue.size === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.version.value += 1;
      return;
    }
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.version.value += 1;
    }, INTERVAL_MS);
  }
}

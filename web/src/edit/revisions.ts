/** The revisions of a configuration as a session follows them. */

import type { Answers } from "../api/client.ts";
import { isEqual, type Json, type JsonObject } from "../api/json.ts";
import type { Change } from "../form/edits.ts";

export type HistoryItem = Answers["HistoryItem"];

/** A configuration as the daemon has it; revision 0 is what the files say while that is not valid. */
export interface Base {
  config: JsonObject;
  revision: number;
  epoch: number;
  /** Whether neither the daemon nor a file has anything of it. */
  absent?: boolean;
}

/** What others changed since the user began to look. */
export interface News {
  revision: number;
  /** The revisions between, newest first; none if the history cannot be read. */
  entries: HistoryItem[];
  /** Whether the history is read still, so that nobody knows yet who made the newest revision. */
  reading?: boolean;
  changes: Change[];
}

/** Return who made the newest revision; undefined while that is not known. */
export function authorOf({ revision, entries, reading }: News): string | undefined {
  const entry = entries.find((item) => item.revision === revision);
  return entry?.author ?? (reading ? undefined : "somebody else");
}

export function baseOf({ config, revision, epoch }: Answers["ConfigAnswer"]): Base {
  return { config: config as JsonObject, revision, epoch };
}

/** Whether a configuration is a later state than another one of the same service. */
export function isNewer(next: Base, before: Base): boolean {
  if (next.epoch !== before.epoch) return next.epoch > before.epoch;
  if (next.revision !== before.revision) return next.revision > before.revision;
  // Readers may see a revision differently now, as when a schema makes a value a secret.
  return !isEqual(next.config, before.config);
}

/** Return what changed since the user began to look, after there is more of it. */
export function mergedNews(before: News | undefined, next: News): News {
  if (before === undefined) return next;
  const entries = new Map([...next.entries, ...before.entries].map((entry) => [entry.revision, entry]));
  const changes = new Map<string, Change>();
  for (const change of [...before.changes, ...next.changes]) {
    const first = changes.get(change.pointer);
    const old: Json | undefined = first === undefined ? change.old : first.old;
    changes.set(change.pointer, { ...change, ...(old === undefined ? {} : { old }) });
  }
  return {
    revision: next.revision,
    ...(next.reading ? { reading: true } : {}),
    entries: [...entries.values()].sort((one, other) => other.revision - one.revision),
    changes: [...changes.values()],
  };
}

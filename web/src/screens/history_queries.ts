/** The requests of the screens for history, comparison and rollback. */

import { type Answers, configPath, type Query, request } from "../api/client.ts";

export type Revision = Answers["HistoryItem"];
export interface History {
  revisions: Revision[];
  /** Whether there are older ones. */
  more: boolean;
}

/** Read a revision, or another positive number, of an address; undefined if it is none. */
export function positive(text: string | undefined): number | undefined {
  return text !== undefined && /^[1-9]\d{0,15}$/.test(text) ? Number(text) : undefined;
}

const LARGEST_PAGE = 1000;

/** Return the newest revisions of a configuration, newest first. */
export async function history(
  service: string,
  environment: string,
  count: number,
  signal: AbortSignal,
): Promise<History> {
  const revisions: Revision[] = [];
  let before: number | undefined;
  for (;;) {
    const limit = Math.min(count - revisions.length, LARGEST_PAGE);
    const page = await request<Answers["HistoryAnswer"]>("GET", configPath(service, "history"), {
      query: { environment, limit, before },
      signal,
    });
    revisions.push(...page.revisions);
    if (page.next === null || page.revisions.length === 0) return { revisions, more: false };
    if (revisions.length >= count) return { revisions, more: true };
    before = page.next;
  }
}

/** The sides of a comparison; a revision that is undefined is the newest one. */
export interface Sides {
  env1: string;
  env2: string;
  rev1?: number | undefined;
  rev2?: number | undefined;
}

export function compare(service: string, sides: Sides, signal: AbortSignal): Promise<Answers["CompareAnswer"]> {
  const query: Query = { env1: sides.env1, env2: sides.env2, rev1: sides.rev1, rev2: sides.rev2 };
  return request("GET", `/config/compare/${encodeURIComponent(service)}`, { query, signal });
}

/** Return a configuration of a revision, the newest one if it is undefined. */
export function document(
  service: string,
  environment: string,
  revision: number | undefined,
  signal: AbortSignal,
): Promise<Answers["ConfigAnswer"]> {
  return request("GET", configPath(service), { query: { environment, revision }, signal });
}

/** What a rollback is based on: the newest revision, which may be the end of the configuration. */
export type Basis = Pick<Revision, "revision" | "deleted">;

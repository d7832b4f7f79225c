/**
 * Writes whose answer may get lost: the same request is sent again until it is known what became of it, and it is
 * carried out once.
 */

import { type Answers, configPath, type Query, RequestError, request } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";

export type WriteAnswer = Answers["WriteAnswer"];
type HistoryItem = Answers["HistoryItem"];

type Change =
  | { kind: "patch"; patch: JsonObject }
  /** The whole document of a service that has none: there is nothing to patch. */
  | { kind: "create"; config: JsonObject }
  | { kind: "rollback"; revision: number }
  | { kind: "unset"; pointer: string };

/** A write of one service, as it was tried out. */
export interface Write {
  service: string;
  environment: string;
  /** The revision that it is based on; 0 if the service has no configuration. */
  revision: number;
  /** What is done. */
  change: Change;
  comment: string;
  allowBreaking: boolean;
  /** Names the write: a repeat has the same one. */
  requestId: string;
}

export type Outcome =
  | { kind: "done"; revision: number; answer?: WriteAnswer }
  | { kind: "conflict" | "refused" | "unknown" | "waiting"; error: RequestError };

/** What a write does outside, so that its logic can be tried without a daemon. */
export interface Surroundings {
  send(write: Write): Promise<WriteAnswer>;
  history(write: Write): Promise<HistoryItem[]>;
  pause(seconds: number): Promise<void>;
  /** Is told why it is not finished yet. */
  report(error: RequestError): void;
}

const ATTEMPTS = 6;
const LONGEST_PAUSE_SECONDS = 10;

/** Whether a refusal leaves open if the write was carried out. */
function leavesOpen(error: RequestError): boolean {
  return error.code === "unreachable" || error.code === "internal" || error.code === "unavailable";
}

/** What a dry run says of a write: the places that change, and the revision and checksum afterwards. */
export interface Expected {
  changed: readonly string[];
  checksum: string;
  revision: number;
  /** Whether secrets are sent, which are sealed anew each time. */
  secrets: boolean;
}

/**
 * Carry out a write.
 *
 * @param open Whether an earlier attempt with the same id may have been carried out.
 */
export async function carryOut(write: Write, expected: Expected, around: Surroundings, open = false): Promise<Outcome> {
  let mayBeDone = open;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await around.send(write);
      return { kind: "done", revision: answer.revision, answer };
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      if (error.code === "conflict") {
        const own = mayBeDone ? await findOwn(write, expected, around) : undefined;
        return own === undefined ? { kind: "conflict", error } : { kind: "done", revision: own.revision };
      }
      const again = error.code === "busy" || leavesOpen(error);
      mayBeDone ||= leavesOpen(error);
      if (!again) return { kind: "refused", error };
      if (attempt === ATTEMPTS) return { kind: mayBeDone ? "unknown" : "waiting", error };
      around.report(error);
      await around.pause(Math.min(error.retryAfter ?? 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS));
    }
  }
}

/** Return the revision that the write made, if its answer got lost. */
async function findOwn(write: Write, expected: Expected, around: Surroundings): Promise<HistoryItem | undefined> {
  const items = await around.history(write).catch(() => []);
  const next = items.find(({ revision }) => revision === expected.revision);
  if (next === undefined || (next.comment ?? "") !== write.comment) return undefined;
  if (next.checksum === expected.checksum) return next;
  // A sealed secret makes another checksum each time.
  const same = expected.secrets && sameNames(next.changed, expected.changed);
  return same ? next : undefined;
}

function sameNames(one: readonly string[], other: readonly string[]): boolean {
  const wanted = new Set(other);
  return one.length === wanted.size && one.every((name) => wanted.has(name));
}

/** Return what a write does outside: it asks the daemon, and reports in words why it is not finished yet. */
export function asking(report: (message: string) => void): Surroundings {
  return {
    send,
    history: (write) => newestRevisions(write.service, write.environment),
    pause: (seconds) => new Promise<void>((resolve) => setTimeout(resolve, seconds * 1000)),
    report: ({ code }) =>
      report(
        code === "busy"
          ? "The daemon is busy. The same request is sent again in a moment …"
          : "There is no answer yet. The same request is sent again, and carried out once …",
      ),
  };
}

/** Send a write, or with `dryRun` ask what it would do. */
export function send(
  write: Write,
  { dryRun = false, signal }: { dryRun?: boolean; signal?: AbortSignal } = {},
): Promise<WriteAnswer> {
  const { change } = write;
  const fields = {
    request_id: write.requestId,
    environment: write.environment,
    ...(write.comment ? { comment: write.comment } : {}),
    ...(dryRun ? { dry_run: true } : {}),
    ...(write.allowBreaking ? { allow_breaking: true } : {}),
    // If-Match cannot say that there is no revision yet.
    ...(write.revision === 0 ? { expected_revision: 0 } : {}),
  };
  const condition = {
    ...(write.revision > 0 ? { ifMatch: write.revision } : {}),
    ...(signal === undefined ? {} : { signal }),
  };
  switch (change.kind) {
    case "patch":
      return request("PATCH", configPath(write.service), {
        query: fields satisfies Query,
        body: change.patch,
        type: "application/merge-patch+json",
        ...condition,
      });
    case "create":
      return request("PUT", configPath(write.service), {
        query: fields satisfies Query,
        body: change.config,
        ...condition,
      });
    case "rollback":
      return request("POST", configPath(write.service, "rollback"), {
        body: { ...fields, revision: change.revision },
        ...condition,
      });
    case "unset":
      return request("POST", configPath(write.service, "unset"), {
        body: { ...fields, pointer: change.pointer },
        ...condition,
      });
  }
}

/** Return the newest revisions of a service, newest first. */
export async function newestRevisions(
  service: string,
  environment: string,
  { limit = 20, atLeast }: { limit?: number; atLeast?: number } = {},
): Promise<HistoryItem[]> {
  const answer = await request<Answers["HistoryAnswer"]>("GET", configPath(service, "history"), {
    query: { environment, limit, ...(atLeast === undefined ? {} : { at_least: atLeast }) },
  });
  return answer.revisions;
}

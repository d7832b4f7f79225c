/** Sending what was reviewed. It goes on when the review is closed, and the session says what became of it. */

import type { RequestError } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";
import { type Change, changesBetween, hasSecrets } from "../form/edits.ts";
import { invalidate } from "../store/resources.ts";
import { inOrderOf } from "./member_order.ts";
import { configurationOf } from "./service_data.ts";
import type { Failure, Session } from "./session.ts";
import { asking, carryOut, type Outcome, type WriteAnswer } from "./write.ts";
import { writeChanges } from "./write_changes.ts";

export type Tried = Pick<Failure, "write" | "trial" | "sent">;

/**
 * Send a write that was tried out. Returns whether it is in force.
 *
 * @param tried The write, what the daemon answered to its dry run, and the edits of which it was made.
 * @param open Whether an earlier attempt may have been carried out.
 */
export async function applyWrite(session: Session, tried: Tried, open = false): Promise<boolean> {
  const { write, trial, sent } = tried;
  session.failure.value = undefined;
  session.sending.value = "Applying …";
  session.beginWrite();
  try {
    const expected = { ...trial, secrets: hasSecrets(sent) };
    const outcome = await carryOut(
      write,
      expected,
      asking((message) => {
        session.sending.value = message;
      }),
      open,
    );
    if (outcome.kind === "done") {
      await finish(session, tried, outcome);
      return true;
    }
    session.endWrite();
    if (outcome.kind === "conflict") await catchUp(session, outcome.error);
    if (outcome.kind === "refused") session.problems.value = outcome.error.problems;
    session.failure.value = { ...outcome, ...tried };
    return false;
  } finally {
    session.sending.value = undefined;
    session.endWrite();
  }
}

const HOW = { patch: "edits", create: "edits", rollback: "rollback", unset: "unset" } as const;

/** Note that a write is in force. */
async function finish(
  session: Session,
  { write, trial, sent }: Tried,
  { revision, answer }: Outcome & { kind: "done" },
): Promise<void> {
  const before = session.base.peek();
  // Members stay where they were shown.
  const config = answer && (inOrderOf(before.config, answer.config as JsonObject) as JsonObject);
  let base = answer && config && { config, revision: answer.revision, epoch: answer.epoch };
  if (base === undefined) {
    const read = new AbortController().signal;
    base = await configurationOf(write.service, write.environment, read, revision).catch(() => undefined);
  }
  const { restart_required: restart, waits_for_broker: waits = false } = answer ?? trial;
  const changes = changesOf(before.config, answer ?? trial);
  const how = HOW[write.change.kind];
  session.finishWrite(base ?? { ...before, revision }, sent, { changes, restart, how, waits });
  invalidate("change", `change:${write.service}`);
}

/** Have the session take the newer revision of which a conflict tells. */
export async function catchUp(session: Session, error: RequestError): Promise<void> {
  const { service, environment } = session;
  const atLeast = typeof error.body.revision === "number" && error.body.revision > 0 ? error.body.revision : undefined;
  try {
    session.receive(await configurationOf(service, environment, new AbortController().signal, atLeast));
    await session.settled();
  } catch {} // The next event, or the next attempt, tells it.
}

/** Return every place that a write changes. */
export function changesOf(before: JsonObject, answer: WriteAnswer): Change[] {
  // Of a first revision the daemon lists all places; here the files had most of them already.
  if (answer.revision <= 1) {
    return changesBetween(before, answer.config as JsonObject).filter(({ pointer }) => pointer !== "/version");
  }
  return writeChanges(before, answer) as Change[];
}

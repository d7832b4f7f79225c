/** The dry run of what is reviewed: what the daemon says that it would do. */

import { useEffect, useState } from "preact/hooks";
import { failure, RequestError, token } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";
import { type Edits, hasSecrets, NO_EDITS, toMergePatch, unsent } from "../form/edits.ts";
import type { Key } from "../form/sealing.ts";
import { catchUp } from "./applying.ts";
import { randomId } from "./random.ts";
import type { Reviewed } from "./reviewed.ts";
import type { Session } from "./session.ts";
import { send, type Write, type WriteAnswer } from "./write.ts";

export type Trial =
  | { state: "trying" | "undecided" | "nothing" }
  | { state: "unsent" }
  | { state: "refused"; error: RequestError }
  | { state: "new key"; message: string; key: Key }
  /** `breaking`: why the daemon does it only if the user allows it. */
  | { state: "ready"; write: Write; answer: WriteAnswer; sent: Edits; breaking?: RequestError };

/** Try out what is reviewed, anew whenever it or the revision below it changes, until it is applied. */
export function useTrial(session: Session, of: Reviewed, again: number, isApplied: boolean): Trial {
  const edits = session.edits.value;
  const base = session.base.value;
  const undecided = session.conflicts.value.length > 0;
  const [trial, setTrial] = useState<Trial>({ state: "trying" });
  useEffect(() => {
    if (isApplied) return;
    let wanted = true;
    const set = (next: Trial) => wanted && setTrial(next);
    if (undecided && of.kind === "edits") set({ state: "undecided" });
    else {
      set({ state: "trying" });
      void tryOut(session, of, edits, () => wanted).then((next) => {
        if (wanted && next.state !== "trying")
          session.problems.value = next.state === "refused" ? next.error.problems : [];
        set(next);
      });
    }
    return () => {
      wanted = false;
    };
  }, [session, of, again, edits, base, undecided, isApplied, token.value]);
  return trial;
}

async function tryOut(session: Session, of: Reviewed, edits: Edits, wanted: () => boolean): Promise<Trial> {
  if (of.kind === "edits" && (session.text.peek()?.broken !== undefined || unsent(edits).length > 0))
    return { state: "unsent" };
  const { config, revision } = session.base.peek();
  for (let attempt = 1; ; attempt += 1) {
    let breaking: RequestError | undefined;
    try {
      const change = await changeOf(session, of, config, edits);
      if (change === undefined) return { state: "nothing" };
      const write: Write = {
        service: session.service,
        environment: session.environment,
        revision,
        change,
        comment: "",
        allowBreaking: false,
        requestId: randomId(),
      };
      const answer = await send(write, { dryRun: true }).catch((error) => {
        if (!(error instanceof RequestError) || error.code !== "incompatible") throw error;
        breaking = error;
        write.allowBreaking = true;
        return send(write, { dryRun: true });
      });
      if (answer.unchanged && revision > 0) return { state: "nothing" };
      const sent = of.kind === "edits" ? edits : NO_EDITS;
      return { state: "ready", write, answer, sent, ...(breaking === undefined ? {} : { breaking }) };
    } catch (error) {
      if (isNewKey(error)) return { state: "new key", message: error.message, key: error.key };
      const refused = failure(error);
      if (refused.code === "conflict") await catchUp(session, refused);
      const later = refused.code === "busy" || refused.code === "unavailable";
      if (!later || attempt === 4 || !wanted()) return { state: "refused", error: refused };
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(refused.retryAfter ?? attempt, 10)));
    }
  }
}

/** Return what is sent; undefined if it changes nothing. */
async function changeOf(
  session: Session,
  of: Reviewed,
  config: JsonObject,
  edits: Edits,
): Promise<Write["change"] | undefined> {
  if (of.kind !== "edits") return of;
  const { service, environment } = session;
  // The library that seals is loaded when there is a secret.
  const sealed = hasSecrets(edits)
    ? await (await import("../form/sealing.ts")).sealEdits(edits, { service, environment })
    : edits;
  const patch = toMergePatch(config, sealed);
  if (session.base.peek().absent) return { kind: "create", config: patch };
  if (Object.keys(patch).length === 0 && session.base.peek().revision > 0) return undefined;
  return { kind: "patch", patch };
}

function isNewKey(error: unknown): error is Error & { key: Key } {
  return error instanceof Error && "key" in error;
}

/** The sessions of this page: each service of an environment has one, which outlives its screen. */

import { type Answers, configPath, request, token } from "../api/client.ts";
import type { Edit } from "../form/edits.ts";
import { isWithin } from "../form/pointer.ts";
import { type Base, baseOf } from "./revisions.ts";
import { Session } from "./session.ts";

const sessions = new Map<string, Session>();

/** Return the session of a service in an environment; it begins with the first call. */
export function sessionOf(service: string, environment: string, base: Base): Session {
  const key = keyOf(service, environment);
  const found = sessions.get(key);
  // It was deleted since.
  if (found !== undefined && base.absent && found.base.peek().revision > 0) found.base.value = base;
  if (found !== undefined) return found;
  const made = new Session(service, environment, base);
  sessions.set(key, made);
  return made;
}

function keyOf(service: string, environment: string): string {
  return `${environment}/${service}`;
}

/**
 * Put an edit into the draft of a service, as when a value of another environment is taken.
 *
 * @throws RequestError if the configuration cannot be read.
 */
export async function addEdit(service: string, environment: string, pointer: string, edit: Edit): Promise<void> {
  let session = sessions.get(keyOf(service, environment));
  if (session === undefined) {
    const answer = await request<Answers["ConfigAnswer"]>("GET", configPath(service), { query: { environment } });
    session = sessionOf(service, environment, baseOf(answer));
  }
  await session.settled();
  const rest = [...session.edits.peek()].filter(([edited]) => !isWithin(edited, pointer));
  session.edits.value = new Map([...rest, [pointer, edit]]);
  session.refreshText();
  session.keep();
}

globalThis.addEventListener?.("pagehide", () => {
  for (const session of sessions.values()) session.keep();
});
let hadToken = token.peek() !== "";
token.subscribe((value) => {
  if (hadToken && value === "") for (const session of sessions.values()) session.forgetSecrets();
  hadToken = value !== "";
});

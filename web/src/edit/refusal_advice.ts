/** What a person can do about a refused write, and what became of the edits. */

import type { RequestError } from "../api/client.ts";

const ADVICE: Record<string, string> = {
  invalid_request:
    "The daemon does not understand the request. A page that is older than the daemon may be the reason: load it again; the draft is kept.",
  unauthorized: "Your edits are kept.",
  forbidden: "Your edits are kept. Another token may be allowed to do this.",
  not_found: "Your edits are kept. The service or the environment may have been removed meanwhile.",
  conflict: "The newer revision is read; your edits are kept.",
  too_large: "Shorten a value, or put less into this service.",
  validation_failed: "Choose a place to correct it.",
  busy: "Your edits are kept. The daemon has too much to do at present.",
  unavailable: "Your edits are kept. The daemon cannot use its store or its files at present.",
  internal: "Your edits are kept. The daemon's log has the details.",
  unreachable: "Nothing was sent that changes anything. Your edits are kept.",
};
const DELETED =
  "It was deleted meanwhile; your edits are kept. The tab History restores an old revision. After that they can be sent.";

/** Return the advice about a refusal; undefined if the daemon's message is enough. */
export function adviceAbout({ code, body }: RequestError): string | undefined {
  // A conflict carries the revision that is in force; 0 is none.
  return code === "conflict" && Number(body.revision ?? -1) === 0 ? DELETED : ADVICE[code];
}

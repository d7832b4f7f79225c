/** What a review is about, and how the address says it: a page that is loaded again shows the same review. */

/** What is reviewed: the edits of the session, or a write for which the daemon has the values. */
export type Reviewed = { kind: "edits" } | { kind: "rollback"; revision: number } | { kind: "unset"; pointer: string };

/** Return a review as the address names it. */
export function writeReviewed(of: Reviewed): string {
  if (of.kind === "rollback") return `undo.${of.revision}`;
  return of.kind === "unset" ? `reset.${of.pointer}` : "1";
}

/** Return the review that an address names; what it does not name is that of the edits. */
export function readReviewed(text: string): Reviewed {
  const undo = /^undo\.([1-9]\d{0,15})$/.exec(text);
  if (undo !== null) return { kind: "rollback", revision: Number(undo[1]) };
  return text.startsWith("reset.") ? { kind: "unset", pointer: text.slice("reset.".length) } : { kind: "edits" };
}

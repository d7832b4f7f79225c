/** Takes values of the other side of a comparison into the draft of a service, where they are reviewed before they are sent. */

import { useState } from "preact/hooks";
import { isHidden } from "../api/masks.ts";
import type { Edit } from "../form/edits.ts";
import { href } from "../router.ts";
import type { Change } from "../ui/differences.tsx";
import { Announcement, Notice } from "../ui/elements.tsx";
import { counted } from "../ui/words.ts";

export interface Target {
  service: string;
  /** The environment whose draft gets the values. */
  env: string;
  /** The side that it is; the values are those of the other one. */
  side: "old" | "new";
}

export interface Taking {
  /** The changes of which a value can be taken. */
  possible: readonly Change[];
  taken: ReadonlySet<string>;
  take: (changes: readonly Change[]) => void;
  /** Why it failed. */
  failure: string | undefined;
}

/** Use the values of one side as edits of the other one. Secrets stay where they are: nobody sees them. */
export function useTaking(target: Target | undefined, changes: readonly Change[]): Taking {
  const [taken, setTaken] = useState<ReadonlySet<string>>(new Set());
  const [failure, setFailure] = useState<string>();
  const possible = target === undefined ? [] : changes.filter((change) => editOf(change, target.side) !== undefined);
  async function take(wanted: readonly Change[]): Promise<void> {
    if (target === undefined) return;
    setFailure(undefined);
    try {
      const { addEdit } = await import("../edit/sessions.ts");
      for (const change of wanted) {
        const edit = editOf(change, target.side);
        if (edit !== undefined) await addEdit(target.service, target.env, change.pointer, edit);
      }
      setTaken((before) => new Set([...before, ...wanted.map(({ pointer }) => pointer)]));
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  }
  return { possible, taken, take: (wanted) => void take(wanted), failure };
}

/** Return the edit that gives a side the value of the other one; undefined if nobody can know it. */
function editOf(change: Change, side: "old" | "new"): Edit | undefined {
  if (change.leftOut || isHidden(change.old) || isHidden(change.new)) return undefined;
  const value = side === "old" ? change.new : change.old;
  return value === undefined ? { kind: "remove" } : { kind: "set", value };
}

/** What is in the draft now, and the way to it. */
export function Taken({ target, taking, shown }: { target: Target; taking: Taking; shown: readonly Change[] }) {
  const { possible, taken, take, failure } = taking;
  const open = shown.filter((change) => possible.includes(change) && !taken.has(change.pointer));
  return (
    <>
      {failure !== undefined && <Notice tone="bad" title={failure} />}
      <Announcement>
        {taken.size > 0 ? `The draft of ${target.env} has ${counted(taken.size, "value")} of the other side.` : ""}
      </Announcement>
      {taken.size > 0 && (
        <Notice tone="info" title={`The draft of ${target.env} has ${counted(taken.size, "value")} of the other side.`}>
          <p>
            Nothing was sent. <a href={href(["services", target.service], { env: target.env })}>Look at the draft</a>
          </p>
        </Notice>
      )}
      {open.length > 1 && (
        <div class="buttons">
          <button type="button" onClick={() => take(open)}>
            Take all {counted(open.length, "value")} into the draft of {target.env}
          </button>
        </div>
      )}
    </>
  );
}

export function TakeButton({ target, taking, change }: { target: Target; taking: Taking; change: Change }) {
  const { possible, taken, take } = taking;
  if (!possible.includes(change)) return null;
  if (taken.has(change.pointer)) return <span class="muted">in the draft of {target.env}</span>;
  return (
    <button type="button" class="small" onClick={() => take([change])}>
      {(target.side === "old" ? change.new : change.old) === undefined ? "Remove it in" : "Take it into"} the draft of{" "}
      {target.env}
      <span class="visually-hidden"> ({change.pointer})</span>
    </button>
  );
}

/** Edits of files that are not in force because they are refused. */

import type { RefusedEdit } from "../api/queries.ts";
import { Notice } from "../ui/elements.tsx";
import { MOST_REFUSED, refusedGroups } from "./refused_groups.ts";

/** Says which edits are refused, where there are any. */
export function RefusedEdits({ edits }: { edits: readonly RefusedEdit[] }) {
  if (edits.length === 0) return null;
  return (
    <Notice lasting tone="warning" title="Edits of the files are refused. What was in force before goes on.">
      <RefusedList edits={refusedGroups(edits)} />
      {edits.length >= MOST_REFUSED && (
        <p>
          These are the first {MOST_REFUSED} problems; <code>aliciacfg check</code> lists all of them.
        </p>
      )}
    </Notice>
  );
}

/** The edits, each with its file and line. */
export function RefusedList({ edits }: { edits: readonly RefusedEdit[] }) {
  return (
    <ul class="problems">
      {edits.map(({ file, line, message }) => (
        <li key={`${file} ${line} ${message}`}>
          <code>
            {file || "the files"}
            {line !== null && `:${line}`}
          </code>{" "}
          {message}
        </li>
      ))}
    </ul>
  );
}

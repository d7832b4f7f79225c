/** Shows what differs between two states of a configuration, place by place: the old value and the new one. */

import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import type { Json } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { useDeferred } from "./deferred.ts";
import { Tag } from "./elements.tsx";
import { PlaceName } from "./place_name.tsx";
import { documentRows, type Row, valueRows, visible } from "./value_rows.ts";

/** A place with the value of each side; a side that has none lacks it. */
export interface Change {
  pointer: string;
  old?: Json | undefined;
  new?: Json | undefined;
  /** Whether the values are too long to be part of the answer: then neither side is shown. */
  leftOut?: boolean;
}

export interface DifferencesProps {
  changes: readonly Change[];
  /** The names of the sides for those who hear them; "old" and "new" unless they are said. */
  old?: string;
  new?: string;
  /** The places whose change takes effect only after a restart of the service. */
  restart?: readonly string[];
  /** What stands beside the name of a place, such as a link to it. */
  beside?: (change: Change) => ComponentChildren;
  /** What is said when nothing differs. */
  empty?: string;
}

/** The differences as a list. A `−` is before what the old side has, a `+` before what the new side has. */
export function Differences(props: DifferencesProps) {
  const { changes, restart = [], beside, empty = "Nothing differs." } = props;
  const shown = useDeferred(changes.length);
  const restarting = useMemo(() => new Set(restart), [restart]);
  if (changes.length === 0) return <p class="muted">{empty}</p>;
  return (
    <ul class="differences">
      {changes.slice(0, shown).map((change) => (
        <li key={change.pointer}>
          <div class="place">
            {change.pointer === "" ? "The whole configuration" : <PlaceName of={change.pointer} />}
            {restarting.has(change.pointer) && <Tag tone="warning">restart needed</Tag>}
            {beside?.(change)}
          </div>
          <Values change={change} old={props.old ?? "old"} new={props.new ?? "new"} />
        </li>
      ))}
    </ul>
  );
}

function Values({ change, old, new: next }: { change: Change; old: string; new: string }) {
  const rows = useMemo(() => valueRows(change.old, change.new), [change]);
  if (change.leftOut) return <p class="muted">The value is too long to be shown here.</p>;
  if (change.old === MASK && change.new === MASK) {
    return <p class="muted">{MASK} A secret with another value, which is not shown.</p>;
  }
  return <Rows rows={rows} old={old} next={next} />;
}

/** Two whole documents in one, with a sign where they differ. */
export function DocumentDifferences({
  old,
  next,
  names,
}: {
  old: Json;
  next: Json;
  names: { old: string; new: string };
}) {
  const rows = useMemo(() => documentRows(old, next), [old, next]);
  return (
    <div class="document">
      <Rows rows={rows} old={names.old} next={names.new} />
    </div>
  );
}

function Rows({ rows, old, next }: { rows: readonly Row[]; old: string; next: string }) {
  const shown = useDeferred(rows.length);
  return (
    <div class="values">
      {rows.slice(0, shown).map((row, index) => (
        // The rows of a change are never reordered.
        <Line key={`${index}${row.kind}`} row={row} label={label(row, rows[index - 1], old, next)} />
      ))}
    </div>
  );
}

const SIGNS: Record<Row["kind"], string> = { old: "−", new: "+", same: " ", gap: "⋯" };

/** Return what a screen reader says before a row: the side, where it changes. */
function label(row: Row, before: Row | undefined, old: string, next: string): string {
  if (row.kind === before?.kind) return "";
  if (row.kind === "same") return "both: ";
  return row.kind === "old" ? `${old}: ` : row.kind === "new" ? `${next}: ` : "";
}

function Line({ row, label }: { row: Row; label: string }) {
  if (row.kind === "gap") {
    return (
      <div class="value gap">
        <span aria-hidden="true" class="sign">
          {SIGNS.gap}
        </span>
        <span>{row.parts[0]?.text} lines that are the same</span>
      </div>
    );
  }
  const [first] = row.parts;
  const isSecret = row.parts.length === 1 && first?.text === JSON.stringify(MASK);
  return (
    <div class={`value ${row.kind}`}>
      <span aria-hidden="true" class="sign">
        {SIGNS[row.kind]}
      </span>
      <span class="visually-hidden">{label}</span>
      <code>
        {isSecret ? (
          <>
            {MASK} <span class="muted">a secret</span>
          </>
        ) : (
          row.parts.map((part, index) => {
            const text = visible(part.text);
            if (part.kind === "same") return text;
            const Mark = part.kind === "old" ? "del" : "ins";
            return <Mark key={`${index}${text}`}>{text}</Mark>;
          })
        )}
      </code>
    </div>
  );
}

/** The members of an object: which ones are shown, how many are rendered, and how one is added. */

import { useComputed } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { isEqual } from "../api/json.ts";
import { VERBATIM } from "../ui/verbatim.ts";
import { blank, memberNames } from "./fields.ts";
import { child, find, isWithin, tokens } from "./pointer.ts";
import { type Place, step } from "./schema.ts";
import { useForm, useKept } from "./store.ts";

const FIRST = 40;
const STEP = 80;

/**
 * Return which of some members or items are rendered now: those that were, and some more with each frame, so that no
 * step holds up the page; and the one that is revealed.
 */
export function useShown(pointer: string, names: readonly string[]): string[] {
  const form = useForm();
  const [, renderAgain] = useState(0);
  const rendered = useRef<ReadonlySet<string>>(new Set());
  const revealed = useComputed(() => {
    const place = form.revealed.value;
    if (place === undefined || place === pointer || !isWithin(place, pointer)) return undefined;
    return tokens(place.slice(pointer.length))[0];
  }).value;
  let more = rendered.current.size === 0 ? FIRST : STEP;
  const shown = names.filter((name) => rendered.current.has(name) || name === revealed || more-- > 0);
  useEffect(() => {
    rendered.current = new Set(shown);
    if (shown.length === names.length) return;
    const frame = requestAnimationFrame(() => renderAgain((times) => times + 1));
    return () => cancelAnimationFrame(frame);
  });
  return shown;
}

/** Return the names of an object's members that are shown. */
export function useNames(place: Place, pointer: string): string[] {
  const form = useForm();
  const last = useRef<string[]>([]);
  return useComputed(() => {
    const values = [find(form.config.value, pointer), find(form.current.value, pointer)];
    const visible = form.visible.value;
    const names = memberNames(place, pointer, values, form.removed.value).filter(
      (name) => visible === undefined || visible.has(child(pointer, name)),
    );
    // The same array while nothing is added or removed, so that typing does not render the object.
    if (!isEqual(names, last.current)) last.current = names;
    return last.current;
  }).value;
}

const TYPES: [type: string, title: string][] = [
  ["string", "text"],
  ["number", "number"],
  ["boolean", "on or off"],
  ["array", "list"],
  ["object", "object"],
];

/** Adds a member to a map. */
export function AddMember({ place, pointer, name }: { place: Place; pointer: string; name: string }) {
  const form = useForm();
  const id = useId();
  const [typed, setTyped] = useKept("new member", pointer, () => "");
  const [type, setType] = useKept("type of the new member", pointer, () => "string");
  const [problem, setProblem] = useState("");
  const inner = step(place, typed);
  const fixed = inner.node.types !== undefined || inner.node.choices !== undefined || inner.node.names.length > 0;
  function add(): void {
    const at = child(pointer, typed);
    if (find(form.current.peek(), at) !== undefined) {
      setProblem(`There is a member ${typed} already.`);
      return;
    }
    setProblem("");
    const value = blank(inner.node, fixed ? undefined : type);
    // A secret has to be typed, so the field comes without a value.
    form.set(at, value);
    setTyped("");
    form.revealed.value = undefined;
    form.revealed.value = at;
  }
  return (
    <div class="add">
      <label for={id}>
        New member<span class="visually-hidden"> of {name}</span>
      </label>
      <input
        id={id}
        type="text"
        value={typed}
        autocomplete="off"
        {...VERBATIM}
        placeholder="name"
        aria-invalid={problem !== "" || undefined}
        aria-describedby={problem === "" ? undefined : `${id}-problem`}
        onInput={(event) => setTyped(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter") return;
          event.preventDefault();
          if (typed !== "") add();
        }}
      />
      {!fixed && (
        <select
          aria-label={`Type of the new member of ${name}`}
          value={type}
          onChange={(event) => setType(event.currentTarget.value)}
        >
          {TYPES.map(([value, title]) => (
            <option key={value} value={value}>
              {title}
            </option>
          ))}
        </select>
      )}
      <button type="button" disabled={typed === ""} onClick={add}>
        Add
      </button>
      <span id={`${id}-problem`} role="status" class="bad">
        {problem}
      </span>
    </div>
  );
}

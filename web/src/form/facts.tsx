/** What a field says beside its control: states, problems, what the schema says, the origin of the value; its buttons. */

import { useComputed } from "@preact/signals";
import { useRef } from "preact/hooks";
import { isEqual, isObject, type Json } from "../api/json.ts";
import { isHidden } from "../api/masks.ts";
import { Tag } from "../ui/elements.tsx";
import { Prose } from "../ui/prose.tsx";
import { rangeInWords, show } from "./checks.ts";
import { choiceTexts } from "./choices.ts";
import { isRemovable, type Kind, nameText, titleOf } from "./fields.ts";
import {
  canSetBelow,
  type Explained,
  type Explanation,
  isRuntime,
  layerInWords,
  type Overridden,
  valueBelow,
} from "./origins.ts";
import { find, isWithin, parent } from "./pointer.ts";
import { masked, type Place, type SchemaNode, shownChoices } from "./schema.ts";
import { useForm } from "./store.ts";

export interface EntryProps {
  place: Place;
  pointer: string;
  /** The name of the member, or "Item 1". */
  name: string;
  /** What describes the places around, outermost first. */
  trail: readonly SchemaNode[];
  /** What describes the object around; undefined for an item. */
  outer: SchemaNode | undefined;
  /** The name of the list, for an item; it completes the accessible name. */
  list?: string;
}

/** Return what the marks and buttons of a field depend on. */
export function useFieldState({ pointer }: EntryProps) {
  const form = useForm();
  const changed = useComputed(() => form.changed.value.has(pointer) || isRemovedNow(form, pointer)).value;
  const messages = useComputed(() => form.problems.value.get(pointer)).value ?? NO_MESSAGES;
  return { changed, messages };
}

const NO_MESSAGES: readonly string[] = [];

/** Return the messages about what is inside a field, each with its place there. */
export function useInnerMessages(pointer: string): readonly string[] {
  const form = useForm();
  const last = useRef<readonly string[]>(NO_MESSAGES);
  return useComputed(() => {
    const found: string[] = [];
    for (const [place, messages] of form.withProblems.value.has(pointer) ? form.problems.value : []) {
      if (place === pointer || !isWithin(place, pointer)) continue;
      found.push(...messages.map((message) => `${place.slice(pointer.length)} ${message}`));
    }
    if (!isEqual(found, last.current as string[])) last.current = found;
    return last.current;
  }).value;
}

/** Whether the edits remove a place. */
export function isRemovedNow(form: ReturnType<typeof useForm>, pointer: string): boolean {
  return find(form.config.value, pointer) !== undefined && find(form.current.value, pointer) === undefined;
}

/** The states of a field in words. */
export function Marks(props: EntryProps & { changed: boolean; id?: string }) {
  const { place, pointer, changed, outer, name, id } = props;
  const form = useForm();
  const title = titleOf(place, name);
  // A part that is left out, such as mqtt_config, lacks nothing.
  const lacking = useComputed(
    () =>
      outer?.required.has(name) === true &&
      find(form.current.value, pointer) === undefined &&
      find(form.current.value, parent(pointer) ?? "") !== undefined,
  ).value;
  const before = useComputed(() => {
    if (!form.changed.value.has(pointer)) return undefined;
    const value = find(form.config.value, pointer);
    const now = find(form.current.value, pointer);
    if (value !== undefined && now === undefined) return "Will be removed";
    if (value === undefined) return "New";
    return isObject(value) || Array.isArray(value) || isHidden(value) || isEqual(value, now)
      ? "Changed"
      : `Changed, was ${showAt(place, value, 40)}`;
  }).value;
  return (
    <span class="marks" {...(id === undefined ? {} : { id })}>
      {title !== undefined && <span class="muted">{title}</span>}
      {changed && <Tag tone="info">{before ?? "Will be removed"}</Tag>}
      {lacking && <Tag>Required</Tag>}
      {place.restart && <Tag tone="warning">Needs a restart</Tag>}
      {place.node.deprecated && <Tag tone="warning">Deprecated</Tag>}
      {place.node.readOnly && <Tag>Not meant to be changed</Tag>}
    </span>
  );
}

export function Problems({ id, messages }: { id: string; messages: readonly string[] }) {
  if (messages.length === 0) return null;
  return (
    <ul id={id} class="entry-problems">
      {messages.map((message) => (
        <li key={message}>
          <strong>Problem:</strong> {message}
        </li>
      ))}
    </ul>
  );
}

/** What the schema says about a place. */
export function About({ id, place, kind }: { id: string; place: Place; kind: Kind }) {
  const { node } = place;
  const facts = [
    rangeInWords(place),
    node.default !== undefined && kind !== "secret" ? `default ${showAt(place, node.default)}` : "",
    node.variable === undefined ? "" : `environment variable ${node.variable}`,
  ].filter(Boolean);
  return (
    <div id={id} class="entry-about muted">
      {node.description !== undefined && (
        <p>
          <Prose text={node.description} />
        </p>
      )}
      {facts.length > 0 && <p>{capitalised(facts.join("; "))}.</p>}
    </div>
  );
}

/** Return a value as the choices of its place show it; without choices, as `show`. */
function showAt(place: Place, value: Json, longest?: number): string {
  const index = place.node.choices?.findIndex((choice) => isEqual(choice.value, value)) ?? -1;
  return choiceTexts(shownChoices(place))[index] ?? show(masked(place, value), longest);
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Where the value comes from, and which values it overrides. */
export function Origin({ id, pointer }: { id: string; pointer: string }) {
  const form = useForm();
  const explained = useComputed(() => explanationAt(form.explained.value?.values ?? {}, pointer)).value;
  const removed = useComputed(() => form.explained.value?.removed[pointer]).value;
  const by = explained ?? removed;
  if (by === undefined) return <small id={id} />;
  return (
    <small id={id} class="entry-origin muted">
      {removed === undefined ? "" : "Removed, "}
      <span class={isRuntime(by) ? "runtime" : undefined}>{layerInWords(by)}</span>
      {by.overridden.length > 0 && <>, instead of {inWords(by.overridden)}</>}
    </small>
  );
}

/** Return the origin of a value; of an object that is one field, the origin that all values in it share. */
function explanationAt(values: Explanation["values"], pointer: string): Explained | undefined {
  const found = values[pointer];
  if (found !== undefined) return found;
  const inside = Object.keys(values).filter((place) => isWithin(place, pointer));
  const [first, ...rest] = inside.map((place) => values[place]);
  return rest.every((other) => other?.layer === first?.layer) && first !== undefined
    ? { ...first, overridden: [] }
    : undefined;
}

function inWords(overridden: readonly Overridden[]): string {
  return overridden
    .map((item) => {
      const value = item.value as Json;
      const said = value === null ? "nothing" : isHidden(value) ? "a secret" : show(value, 60);
      return `${said} (${layerInWords(item)})`;
    })
    .join(", ");
}

/** The buttons of a field. */
export function Actions(props: EntryProps & { changed: boolean }) {
  const { pointer, name, place, outer, changed } = props;
  const form = useForm();
  const value = useComputed(() => find(form.current.value, pointer)).value;
  const by = useComputed(() => {
    const explained = form.explained.value;
    return explained?.values[pointer] ?? explained?.removed[pointer];
  }).value;
  const runtime = by !== undefined && isRuntime(by);
  const below = runtime ? valueBelow(by.overridden) : undefined;
  const editable = runtime && canSetBelow(find(form.config.value, pointer), below);
  const removable = value !== undefined && isRemovable(outer, name, place, value) && !(runtime && below === undefined);
  // Below an object or a list, the buttons say what they are about.
  const shown = value ?? find(form.config.value, pointer);
  const whole = isObject(shown) || Array.isArray(shown);
  if (!changed && !runtime && !removable) return null;
  return (
    <span class="entry-actions">
      {changed && (
        <button type="button" onClick={() => form.undo(pointer)} aria-label={`Undo the change of ${nameText(name)}`}>
          Undo{whole ? ` ${nameText(name)}` : ""}
        </button>
      )}
      {!changed && runtime && (editable || form.onUnset !== undefined) && (
        <button
          type="button"
          onClick={() => (editable ? form.set(pointer, below) : form.onUnset?.(pointer))}
          aria-label={`Use what the files say for ${nameText(name)}`}
        >
          Use what the files say
        </button>
      )}
      {removable && (
        <button type="button" onClick={() => form.set(pointer, undefined)} aria-label={`Remove ${nameText(name)}`}>
          Remove{whole ? ` ${nameText(name)}` : ""}
        </button>
      )}
    </span>
  );
}

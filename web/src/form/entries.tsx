/** The fields of a form: single values, objects and lists, with where each value comes from. */

import { useComputed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { isEqual, isObject, type Json } from "../api/json.ts";
import { Tag } from "../ui/elements.tsx";
import { count, rangeInWords, show } from "./checks.ts";
import { Control } from "./controls.tsx";
import { blank, isOpen, isRemovable, type Kind, kindOf, memberNames, titleOf } from "./fields.ts";
import {
  canSetBelow,
  type Explained,
  type Explanation,
  isHidden,
  isRuntime,
  layerInWords,
  type Overridden,
  valueBelow,
} from "./origins.ts";
import { child, find, isWithin, tokens } from "./pointer.ts";
import { type Place, type SchemaNode, step, typeOf } from "./schema.ts";
import { useForm } from "./store.ts";

interface EntryProps {
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

/** A field of any kind. */
export function Entry(props: EntryProps) {
  const { place, pointer, trail } = props;
  const form = useForm();
  const kind = useComputed(() => {
    const value = find(form.current.value, pointer) ?? find(form.config.value, pointer);
    return kindOf(place, value, trail);
  }).value;
  if (kind === "object") return <ObjectEntry {...props} />;
  if (kind === "list") return <ListEntry {...props} />;
  return <ValueEntry {...props} kind={kind} />;
}

/** Return what the marks and buttons of a field depend on. */
function useFieldState({ pointer }: EntryProps) {
  const form = useForm();
  const changed = useComputed(() => form.changed.value.has(pointer) || isRemovedNow(form, pointer)).value;
  const messages = useComputed(() => form.problems.value.get(pointer)).value ?? NO_MESSAGES;
  return { changed, messages };
}

const NO_MESSAGES: readonly string[] = [];

/** Return the messages about what is inside a field, each with its place there. */
function useInnerMessages(pointer: string): readonly string[] {
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

function isRemovedNow(form: ReturnType<typeof useForm>, pointer: string): boolean {
  return find(form.config.value, pointer) !== undefined && find(form.current.value, pointer) === undefined;
}

function ValueEntry(props: EntryProps & { kind: Kind }) {
  const { place, pointer, name, trail, outer, kind, list } = props;
  const form = useForm();
  const id = useId();
  const { changed, messages: own } = useFieldState(props);
  // What is inside a field that is a text of JSON has no field of its own.
  const inner = useInnerMessages(pointer);
  const messages = kind === "json" ? [...own, ...inner] : own;
  const isItem = outer === undefined;
  const required = outer?.required.has(name) ?? false;
  const describedBy = [
    !isItem && `${id}-about`,
    !isItem && `${id}-origin`,
    messages.length > 0 && `${id}-problems`,
  ].filter((part) => typeof part === "string");
  return (
    <div class={`entry${changed ? " changed" : ""}${isItem ? " item" : ""}`} data-pointer={pointer}>
      <div class="entry-head">
        <label for={id}>
          {name}
          {list !== undefined && <span class="visually-hidden"> of {list}</span>}
        </label>
        <Marks {...props} changed={changed} />
      </div>
      <div class="entry-control">
        {kind === "absent" ? (
          <Absent id={id} pointer={pointer} place={place} name={name} />
        ) : (
          <Control
            kind={kind}
            id={id}
            pointer={pointer}
            place={place}
            trail={trail}
            required={required}
            describedBy={describedBy.join(" ")}
            invalid={messages.length > 0}
          />
        )}
        {!form.readOnly.value && <Actions {...props} changed={changed} />}
        <Problems id={`${id}-problems`} messages={messages} />
        {!isItem && <Origin id={`${id}-origin`} pointer={pointer} />}
      </div>
      {!isItem && <About id={`${id}-about`} place={place} kind={kind} />}
    </div>
  );
}

function Absent({ id, pointer, place, name }: { id: string; pointer: string; place: Place; name: string }) {
  const form = useForm();
  return (
    <button
      type="button"
      id={id}
      disabled={form.readOnly.value}
      onClick={() => form.set(pointer, blank(place.node, "object"))}
    >
      Add {name}
    </button>
  );
}

/** The states of a field in words. */
function Marks(props: EntryProps & { changed: boolean }) {
  const { place, pointer, changed, outer, name } = props;
  const form = useForm();
  const title = titleOf(place, name);
  const lacking = useComputed(
    () => outer?.required.has(name) === true && find(form.current.value, pointer) === undefined,
  ).value;
  const before = useComputed(() => {
    if (!form.changed.value.has(pointer)) return undefined;
    const value = find(form.config.value, pointer);
    const now = find(form.current.value, pointer);
    if (value !== undefined && now === undefined) return "Will be removed";
    if (value === undefined) return "New";
    return isObject(value) || Array.isArray(value) || isHidden(value) || isEqual(value, now)
      ? "Changed"
      : `Changed, was ${show(value, 40)}`;
  }).value;
  return (
    <span class="marks">
      {title !== undefined && <span class="muted">{title}</span>}
      {changed && <Tag tone="info">{before ?? "Will be removed"}</Tag>}
      {lacking && <Tag>Required</Tag>}
      {place.restart && <Tag tone="warning">Needs a restart</Tag>}
      {place.node.deprecated && <Tag tone="warning">Deprecated</Tag>}
    </span>
  );
}

function Problems({ id, messages }: { id: string; messages: readonly string[] }) {
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
function About({ id, place, kind }: { id: string; place: Place; kind: Kind }) {
  const { node } = place;
  const facts = [
    rangeInWords(place),
    node.default !== undefined && kind !== "secret" ? `default ${show(node.default)}` : "",
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

/** A text of a schema, in which backquotes mark code. */
function Prose({ text }: { text: string }) {
  const parts = text.split(/`+([^`]+)`+/);
  return <>{parts.map((part, index) => (index % 2 === 1 ? <code key={`${index} ${part}`}>{part}</code> : part))}</>;
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Where the value comes from, and which values it overrides. */
function Origin({ id, pointer }: { id: string; pointer: string }) {
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
function Actions(props: EntryProps & { changed: boolean }) {
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
        <button type="button" onClick={() => form.undo(pointer)} aria-label={`Undo the change of ${name}`}>
          Undo{whole ? ` ${name}` : ""}
        </button>
      )}
      {!changed && runtime && (editable || form.onUnset !== undefined) && (
        <button
          type="button"
          onClick={() => (editable ? form.set(pointer, below) : form.onUnset?.(pointer))}
          aria-label={`Use what the files say for ${name}`}
        >
          Use what the files say
        </button>
      )}
      {removable && (
        <button type="button" onClick={() => form.set(pointer, undefined)} aria-label={`Remove ${name}`}>
          Remove{whole ? ` ${name}` : ""}
        </button>
      )}
    </span>
  );
}

const FIRST = 40;
const STEP = 80;

/**
 * Return which of some members or items are rendered now: those that were, and some more with each frame, so that no
 * step holds up the page; and the one that is revealed.
 */
function useShown(pointer: string, names: readonly string[]): string[] {
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
function useNames(place: Place, pointer: string): string[] {
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

/** The fields of an object's members. */
export function Members({ place, pointer, trail }: Pick<EntryProps, "place" | "pointer" | "trail">) {
  const names = useNames(place, pointer);
  const shown = useShown(pointer, names);
  const { node, named, restart } = place;
  // The same elements while more of them are rendered from frame to frame: what is there already is not rendered again.
  const made = useMemo(() => new Map<string, JSX.Element>(), [node, named, restart, pointer]);
  function entry(name: string): JSX.Element {
    let element = made.get(name);
    if (element === undefined) {
      element = (
        <Entry
          key={name}
          place={step(place, name)}
          pointer={child(pointer, name)}
          name={name}
          trail={[...trail, node]}
          outer={node}
        />
      );
      made.set(name, element);
    }
    return element;
  }
  return <>{shown.map(entry)}</>;
}

const FEW = 12;
/** What a service is most often asked to change; on a phone everything else is closed at first. */
const OFTEN = ["settings", "features"];

function isOpenAtFirst(name: string, depth: number, members: number): boolean {
  if (depth > 1) return members <= FEW;
  return OFTEN.includes(name) || !matchMedia("(max-width: 40rem)").matches;
}

function ObjectEntry(props: EntryProps) {
  const { place, pointer, name, trail, list } = props;
  const form = useForm();
  const { changed, messages } = useFieldState(props);
  const title = useId();
  const names = useNames(place, pointer);
  const inside = useComputed(() => form.changedLeaves.value.filter((leaf) => isWithin(leaf, pointer)).length).value;
  const wrong = useComputed(() => form.withProblems.value.has(pointer)).value;
  const reveals = useComputed(() => {
    const revealed = form.revealed.value;
    return form.visible.value !== undefined || (revealed !== undefined && isWithin(revealed, pointer));
  }).value;
  const removed = useComputed(() => isRemovedNow(form, pointer)).value;
  const [open, setOpen] = useState(() => isOpenAtFirst(name, trail.length, names.length));
  useEffect(() => {
    if (reveals) setOpen(true);
  }, [reveals]);
  return (
    <details
      class={`group depth-${Math.min(trail.length, 3)}`}
      data-pointer={pointer}
      open={open || reveals}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>
        <span id={title} class="group-name">
          {name}
          {list !== undefined && <span class="visually-hidden"> of {list}</span>}
        </span>{" "}
        <Marks {...props} place={{ ...place, restart: place.node.restart }} changed={removed} />
        <span class="muted">{count(names.length, "field")}</span>
        {inside > 0 && <Tag tone="info">{`${inside} changed`}</Tag>}
        {wrong && <Tag tone="bad">Has a problem</Tag>}
      </summary>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset's legend cannot be the summary of details. */}
      <div role="group" aria-labelledby={title} class="group-body">
        {place.node.description !== undefined && (
          <p class="muted">
            <Prose text={place.node.description} />
          </p>
        )}
        <Problems id={`${title}-problems`} messages={messages} />
        {(open || reveals) && !removed && <Members place={place} pointer={pointer} trail={trail} />}
        {!form.readOnly.value && !removed && isOpen(place.node) && (
          <AddMember place={place} pointer={pointer} name={name} />
        )}
        {!form.readOnly.value && trail.length > 0 && <Actions {...props} changed={changed} />}
      </div>
    </details>
  );
}

const TYPES: [type: string, title: string][] = [
  ["string", "text"],
  ["number", "number"],
  ["boolean", "on or off"],
  ["array", "list"],
  ["object", "object"],
];

/** Adds a member to a map. */
function AddMember({ place, pointer, name }: { place: Place; pointer: string; name: string }) {
  const form = useForm();
  const id = useId();
  const [typed, setTyped] = useState("");
  const [type, setType] = useState("string");
  const [problem, setProblem] = useState("");
  const box = useRef<HTMLDivElement>(null);
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
    <div class="add" ref={box}>
      <label for={id}>
        New member<span class="visually-hidden"> of {name}</span>
      </label>
      <input
        id={id}
        type="text"
        value={typed}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
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

function ListEntry(props: EntryProps) {
  const { place, pointer, name, trail, outer, list } = props;
  const form = useForm();
  const { changed, messages } = useFieldState(props);
  const id = useId();
  const box = useRef<HTMLFieldSetElement>(null);
  const length = useComputed(() => {
    const value = find(form.current.value, pointer);
    return Array.isArray(value) ? value.length : 0;
  }).value;
  const indexes = Array.from({ length }, (_, index) => index);
  const shown = useShown(pointer, indexes.map(String)).map(Number);
  const readOnly = form.readOnly.value;
  const full = place.node.limits.maxItems !== undefined && length >= place.node.limits.maxItems;

  /** Put the focus on a button after the items moved: the one that was pressed may be gone. */
  function focus(selector: string): void {
    requestAnimationFrame(() => {
      const buttons = box.current?.querySelectorAll<HTMLElement>(selector) ?? [];
      [...buttons].find((button) => button.closest("fieldset") === box.current)?.focus();
    });
  }

  function move(from: number, to: number): void {
    const order = indexes.filter((index) => index !== from);
    form.arrange(pointer, [...order.slice(0, to), from, ...order.slice(to)]);
    focus(
      `[data-index="${to}"] [data-move="${to > from ? "down" : "up"}"]:not(:disabled), [data-index="${to}"] [data-remove]`,
    );
  }

  function remove(index: number): void {
    form.arrange(
      pointer,
      indexes.filter((other) => other !== index),
    );
    focus(`[data-index="${Math.min(index, length - 2)}"] [data-remove], [data-add]`);
  }

  function add(): void {
    const inner = step(place, length);
    const before = find(form.current.peek(), child(pointer, length - 1));
    const free = inner.node.types === undefined && inner.node.choices === undefined;
    const value = blank(inner.node, free && before !== undefined ? typeOf(before) : undefined);
    form.arrange(pointer, [...indexes, { value }]);
    form.revealed.value = undefined;
    form.revealed.value = child(pointer, length);
  }

  return (
    <fieldset
      ref={box}
      class={`entry list-entry${changed ? " changed" : ""}`}
      data-pointer={pointer}
      aria-describedby={`${id}-about ${id}-origin ${id}-problems`}
    >
      <legend>
        {name}
        {list !== undefined && <span class="visually-hidden"> of {list}</span>} <Marks {...props} changed={changed} />
      </legend>
      <div class="entry-control">
        <Problems id={`${id}-problems`} messages={messages} />
        {length === 0 && <p class="muted">No items.</p>}
        <ol class="items">
          {shown.map((index) => (
            <li key={index} data-index={index}>
              <Entry
                place={step(place, index)}
                pointer={child(pointer, index)}
                name={`Item ${index + 1}`}
                list={name}
                trail={[...trail, place.node]}
                outer={undefined}
              />
              {!readOnly && (
                <span class="entry-actions">
                  <button
                    type="button"
                    data-move="up"
                    disabled={index === 0}
                    aria-label={`Move item ${index + 1} of ${name} up`}
                    onClick={() => move(index, index - 1)}
                  >
                    ↑
                  </button>
                  <button
                    type="button"
                    data-move="down"
                    disabled={index === length - 1}
                    aria-label={`Move item ${index + 1} of ${name} down`}
                    onClick={() => move(index, index + 1)}
                  >
                    ↓
                  </button>
                  <button
                    type="button"
                    data-remove
                    aria-label={`Remove item ${index + 1} of ${name}`}
                    onClick={() => remove(index)}
                  >
                    Remove
                  </button>
                </span>
              )}
            </li>
          ))}
        </ol>
        {!readOnly && (
          <button type="button" data-add disabled={full} onClick={add}>
            Add an item<span class="visually-hidden"> to {name}</span>
          </button>
        )}
        <Origin id={`${id}-origin`} pointer={pointer} />
        {!readOnly && outer !== undefined && <Actions {...props} changed={changed} />}
      </div>
      <About id={`${id}-about`} place={place} kind="list" />
    </fieldset>
  );
}

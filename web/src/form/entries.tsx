/** The fields of a form: single values, objects and lists. */

import { useComputed } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useId, useMemo, useRef } from "preact/hooks";
import { Tag } from "../ui/elements.tsx";
import { useOpened } from "../ui/opened.ts";
import { Prose } from "../ui/prose.tsx";
import { count } from "./checks.ts";
import { Control } from "./controls.tsx";
import {
  About,
  Actions,
  type EntryProps,
  isRemovedNow,
  Marks,
  Origin,
  Problems,
  useFieldState,
  useInnerMessages,
} from "./facts.tsx";
import { blank, isOpen, type Kind, kindOf, nameText } from "./fields.ts";
import { AddMember, useNames, useShown } from "./members.tsx";
import { isLongRun, Run } from "./parts.tsx";
import { child, find, isWithin } from "./pointer.ts";
import { type Place, step } from "./schema.ts";
import { useForm, useKept } from "./store.ts";
import { typeOf } from "./types.ts";

/** A field of any kind. */
function Entry(props: EntryProps) {
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

function ValueEntry(props: EntryProps & { kind: Kind }) {
  const { place, pointer, name, trail, outer, kind, list } = props;
  const form = useForm();
  const id = useId();
  const { changed, messages: own } = useFieldState(props);
  // What is inside a field that is a text of JSON has no field of its own.
  const inner = useInnerMessages(pointer);
  const messages = kind === "json" || kind === "choice" ? [...own, ...inner] : own;
  const isItem = outer === undefined;
  const required = outer?.required.has(name) ?? false;
  const describedBy = [
    `${id}-marks`,
    !isItem && `${id}-about`,
    !isItem && `${id}-origin`,
    messages.length > 0 && `${id}-problems`,
  ].filter((part) => typeof part === "string");
  return (
    <div class={`entry${changed ? " changed" : ""}${isItem ? " item" : ""}`} data-pointer={pointer}>
      <div class="entry-head">
        <label for={id}>
          {nameText(name)}
          {list !== undefined && <span class="visually-hidden"> of {list}</span>}
        </label>
        <Marks {...props} id={`${id}-marks`} changed={changed} />
      </div>
      <div class="entry-control">
        {kind === "absent" ? (
          <Absent id={id} pointer={pointer} place={place} name={nameText(name)} />
        ) : (
          <Control
            kind={kind}
            id={id}
            pointer={pointer}
            place={place}
            trail={trail}
            required={required}
            isItem={isItem}
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

/**
 * Return a function that makes the field of a member or item, the same element each time: while more of them are
 * rendered from frame to frame, those that are there are not rendered again.
 */
function useEntries({ node, named, restart }: Place, pointer: string) {
  const made = useMemo(() => new Map<string | number, JSX.Element>(), [node, named, restart, pointer]);
  return (token: string | number, make: () => JSX.Element): JSX.Element => {
    const element = made.get(token) ?? make();
    made.set(token, element);
    return element;
  };
}

/** The fields of an object's members. */
export function Members({ place, pointer, trail }: Pick<EntryProps, "place" | "pointer" | "trail">) {
  const form = useForm();
  const names = useNames(place, pointer);
  const entry = useEntries(place, pointer);
  const field = (name: string) =>
    entry(name, () => (
      <Entry
        key={name}
        place={step(place, name)}
        pointer={child(pointer, name)}
        name={name}
        trail={[...trail, place.node]}
        outer={place.node}
      />
    ));
  return isLongRun(form, names.length) ? (
    <Run place={place} pointer={pointer} names={names} tag="div" field={field} />
  ) : (
    <Shown pointer={pointer} names={names} field={field} />
  );
}

/** The fields of a run that is not long: some more with each frame. */
function Shown({
  pointer,
  names,
  field,
}: {
  pointer: string;
  names: readonly string[];
  field: (name: string) => JSX.Element;
}) {
  return <>{useShown(pointer, names).map(field)}</>;
}

const FEW = 12;
/** What a service is most often asked to change; everything else is closed at first on a phone, and if it is not set. */
const OFTEN = ["settings", "features"];

function isOpenAtFirst(name: string, depth: number, members: number, isSet: boolean): boolean {
  if (depth > 1) return members <= FEW;
  return OFTEN.includes(name) || (isSet && !matchMedia("(max-width: 40rem)").matches);
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
  const isSet = useComputed(() => find(form.current.value, pointer) !== undefined).value;
  const [opened, setOpened] = useOpened(pointer, () => isOpenAtFirst(name, trail.length, names.length, isSet));
  // What a filter or a problem opened stays so, and is no state of its own in the address.
  const [revealed, setRevealed] = useKept("revealed", pointer, () => false);
  useEffect(() => {
    if (reveals) setRevealed(true);
  }, [reveals]);
  const open = opened || revealed || reveals;
  return (
    <details
      class={`group depth-${Math.min(trail.length, 3)}`}
      data-pointer={pointer}
      open={open}
      onToggle={(event) => {
        const now = event.currentTarget.open;
        if (now === open) return;
        setRevealed(false);
        setOpened(now);
      }}
    >
      <summary>
        <span class="triangle" aria-hidden="true" />
        <span id={title} class="group-name">
          {nameText(name)}
          {list !== undefined && <span class="visually-hidden"> of {list}</span>}
        </span>{" "}
        <Marks {...props} place={{ ...place, restart: place.node.restart }} changed={removed} />
        <span class="muted">
          {count(names.length, "field")}
          {!isSet && ", not set"}
        </span>
        {inside > 0 && <Tag tone="info">{`${inside} changed`}</Tag>}
        {wrong && <Tag tone="bad">Has a problem</Tag>}
      </summary>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset's legend cannot be the summary of details. */}
      <div
        role="group"
        aria-labelledby={title}
        aria-describedby={messages.length > 0 ? `${title}-problems` : undefined}
        class="group-body"
      >
        {place.node.description !== undefined && (
          <p class="muted">
            <Prose text={place.node.description} />
          </p>
        )}
        <Problems id={`${title}-problems`} messages={messages} />
        {open && !removed && <Members place={place} pointer={pointer} trail={trail} />}
        {!form.readOnly.value && !removed && isOpen(place.node) && (
          <AddMember place={place} pointer={pointer} name={nameText(name)} />
        )}
        {!form.readOnly.value && trail.length > 0 && <Actions {...props} changed={changed} />}
      </div>
    </details>
  );
}

interface ItemButtonsProps {
  index: number;
  /** The number of items. */
  length: number;
  /** The name of the list. */
  list: string;
  onMove: (to: number) => void;
  onRemove: () => void;
}

/** The buttons that move and remove an item of a list. */
function ItemButtons({ index, length, list, onMove, onRemove }: ItemButtonsProps) {
  const item = `item ${index + 1} of ${list}`;
  return (
    <span class="entry-actions">
      <button
        type="button"
        data-move="up"
        disabled={index === 0}
        aria-label={`Move ${item} up`}
        onClick={() => onMove(index - 1)}
      >
        ↑
      </button>
      <button
        type="button"
        data-move="down"
        disabled={index === length - 1}
        aria-label={`Move ${item} down`}
        onClick={() => onMove(index + 1)}
      >
        ↓
      </button>
      <button type="button" data-remove aria-label={`Remove ${item}`} onClick={onRemove}>
        Remove
      </button>
    </span>
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
  const names = indexes.map(String);
  const entry = useEntries(place, pointer);
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

  const item = (token: string) => {
    const index = Number(token);
    return (
      <li key={index} data-index={index}>
        {entry(index, () => (
          <Entry
            place={step(place, index)}
            pointer={child(pointer, index)}
            name={`Item ${index + 1}`}
            list={nameText(name)}
            trail={[...trail, place.node]}
            outer={undefined}
          />
        ))}
        {!readOnly && (
          <ItemButtons
            index={index}
            length={length}
            list={nameText(name)}
            onMove={(to) => move(index, to)}
            onRemove={() => remove(index)}
          />
        )}
      </li>
    );
  };

  return (
    <fieldset
      ref={box}
      class={`entry list-entry${changed ? " changed" : ""}`}
      data-pointer={pointer}
      aria-describedby={`${id}-about ${id}-origin ${id}-problems`}
    >
      <legend>
        {nameText(name)}
        {list !== undefined && <span class="visually-hidden"> of {list}</span>} <Marks {...props} changed={changed} />
      </legend>
      <div class="entry-control">
        <Problems id={`${id}-problems`} messages={messages} />
        {length === 0 && <p class="muted">No items.</p>}
        {isLongRun(form, length) ? (
          <Run place={place} pointer={pointer} names={names} tag="ol" field={item} />
        ) : (
          <ol class="items">
            <Shown pointer={pointer} names={names} field={item} />
          </ol>
        )}
        {!readOnly && (
          <button type="button" data-add disabled={full} onClick={add}>
            Add an item<span class="visually-hidden"> to {nameText(name)}</span>
          </button>
        )}
        <Origin id={`${id}-origin`} pointer={pointer} />
        {!readOnly && outer !== undefined && <Actions {...props} changed={changed} />}
      </div>
      <About id={`${id}-about`} place={place} kind="list" />
    </fieldset>
  );
}

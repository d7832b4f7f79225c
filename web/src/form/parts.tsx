/**
 * Long runs of members or items, in parts: a part near the viewport has fields, any other one has only their text. So the
 * page holds few fields, and the browser's own search and a screen reader still find all of them in order.
 */

import { useComputed } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Json } from "../api/json.ts";
import { show } from "./checks.ts";
import { child, find, isWithin, member, tokens } from "./pointer.ts";
import { isSecretAt, type Place, step } from "./schema.ts";
import { type FormStore, useForm } from "./store.ts";

/** So many members or items make a part. */
const SIZE = 12;
/** Runs up to this are rendered whole, in a form that is not large itself. */
const SHORT = 100;
/** Fields are there before the user reaches them: so far above and below what is seen. */
const AHEAD = "1500px 0px";
/** How high a field is guessed to be until one was seen, in pixels. */
const GUESSED_HEIGHT = 90;
/** So many parts get their text with each frame, so that no step holds up the page. */
const AT_A_TIME = 10;
const LONGEST_TEXT = 200;

export function isLongRun(form: FormStore, length: number): boolean {
  return length > (form.isLarge ? SIZE : SHORT);
}

interface RunProps {
  place: Place;
  pointer: string;
  /** The tokens of the members or items. */
  names: readonly string[];
  /** The element of a part: a list of items is a list in each part. */
  tag: "div" | "ol";
  /** Returns the field of a member or item. */
  field: (name: string) => ComponentChildren;
}

/** The fields of a long run. */
export function Run({ names, ...props }: RunProps) {
  const [height, setHeight] = useState<number | undefined>(undefined);
  const [focused, setFocused] = useState<number | undefined>(undefined);
  // The first part that was seen tells how high the others are about.
  const note = useCallback((seen: number) => setHeight((before) => before ?? seen), []);
  const parts = Array.from({ length: Math.ceil(names.length / SIZE) }, (_, index) =>
    names.slice(index * SIZE, (index + 1) * SIZE),
  );
  return (
    <>
      {parts.map((part, index) => (
        // A part is known by its place: members are added at the end.
        <Part
          key={index}
          {...props}
          names={part}
          // The Tab key goes on from the one that has the focus before anybody looks there.
          isBeside={focused !== undefined && Math.abs(index - focused) <= 1}
          onFocus={() => setFocused(index)}
          fieldHeight={height ?? GUESSED_HEIGHT}
          onMeasure={note}
        />
      ))}
    </>
  );
}

interface PartProps extends RunProps {
  /** Whether it, or the part before or after it, had the focus last. */
  isBeside: boolean;
  onFocus: () => void;
  fieldHeight: number;
  onMeasure: (fieldHeight: number) => void;
}

function Part(props: PartProps) {
  const { place, pointer, names, tag: Tag, field, isBeside, onFocus, fieldHeight, onMeasure } = props;
  const form = useForm();
  const box = useRef<HTMLElement>(null);
  const state = useRef({ isNear: false, height: 0 });
  const [isShown, setShown] = useState(false);
  const isRevealed = useComputed(() => {
    const revealed = form.revealed.value;
    if (revealed === undefined || revealed === pointer || !isWithin(revealed, pointer)) return false;
    return names.includes(tokens(revealed.slice(pointer.length))[0] ?? "");
  }).value;
  const decide = useCallback(() => {
    // What has the focus stays, wherever the user looks.
    setShown(state.current.isNear || (box.current?.contains(document.activeElement) ?? false));
  }, []);
  const shown = isShown || isRevealed || isBeside;
  const count = names.length;
  useEffect(() => {
    if (box.current === null) return;
    return observe(box.current, (isNear) => {
      state.current.isNear = isNear;
      decide();
    });
  }, []);
  useEffect(() => {
    if (!shown || box.current === null) return;
    return measure(box.current, (height) => {
      state.current.height = height;
      onMeasure(height / count);
    });
  }, [shown, count]);
  return (
    <Tag
      ref={box as never}
      class={`part${Tag === "ol" ? " items" : ""}`}
      data-fields={shown ? "" : undefined}
      style={shown ? undefined : { height: `${state.current.height || count * fieldHeight}px` }}
      onFocusIn={onFocus}
      onFocusOut={() => requestAnimationFrame(decide)}
    >
      {shown ? names.map(field) : <Texts place={place} pointer={pointer} names={names} tag={Tag} />}
    </Tag>
  );
}

/** The texts of fields that are not there: their names, what the schema says, and their values. */
function Texts({ place, pointer, names, tag }: Pick<PartProps, "place" | "pointer" | "names" | "tag">) {
  const form = useForm();
  const [isWritten, setWritten] = useState(false);
  useEffect(() => soon(() => setWritten(true)), []);
  useValues(form, pointer, names, tag === "ol");
  if (!isWritten) return null;
  const Line = tag === "ol" ? "li" : "p";
  return (
    <>
      {names.map((name) => (
        <Line key={name} class="later muted" data-of={child(pointer, name)}>
          {textOf(form, step(place, tag === "ol" ? Number(name) : name), child(pointer, name), name, tag === "ol")}
        </Line>
      ))}
    </>
  );
}

/** Render again when one of some members or items gets another value, by others or because edits are discarded. */
function useValues(form: FormStore, pointer: string, names: readonly string[], isList: boolean): void {
  form.config.value;
  const places = useMemo(() => (isList ? [] : names.map((name) => child(pointer, name))), [pointer, names.join("/")]);
  const before = useRef<readonly (Json | undefined)[]>([]);
  useComputed(() => {
    // There are hundreds of parts, and this runs with each key: which members are changed is known already.
    if (!isList) return places.filter((place) => form.changed.value.has(place)).join(" ");
    const items = find(form.current.value, pointer);
    const now = names.map((name) => member(items, name));
    if (now.some((value, index) => value !== before.current[index])) before.current = now;
    return before.current;
  }).value;
}

function textOf(form: FormStore, place: Place, pointer: string, name: string, isItem: boolean): string {
  const value = find(form.current.peek(), pointer);
  const { title, description } = place.node;
  return [
    isItem ? `Item ${Number(name) + 1}` : name,
    title,
    description,
    isSecretAt(place, value) || value === undefined ? "" : show(value, LONGEST_TEXT),
  ]
    .filter(Boolean)
    .join(" · ");
}

const near = new WeakMap<Element, (isNear: boolean) => void>();
let observer: IntersectionObserver | undefined;

/** Call back when an element comes near to what is seen, and when it leaves; returns a function that ends it. */
function observe(element: Element, notify: (isNear: boolean) => void): () => void {
  observer ??= new IntersectionObserver(
    (entries) => {
      const seen = inSight();
      for (const { target, isIntersecting } of entries) near.get(target)?.(isIntersecting);
      // The fields are rendered in a microtask that was asked for just now.
      if (seen !== undefined) queueMicrotask(() => keepInPlace(seen));
    },
    { rootMargin: AHEAD },
  );
  near.set(element, notify);
  observer.observe(element);
  return () => {
    near.delete(element);
    observer?.unobserve(element);
  };
}

interface Seen {
  element: Element;
  pointer: string;
  top: number;
}

/** Return a field, or the text of one, in the middle of the viewport; undefined at the beginning of the screen. */
function inSight(): Seen | undefined {
  // There the first fields stand where they stand.
  if (scrollY === 0) return undefined;
  for (const share of [0.5, 0.4, 0.6]) {
    const found = document.elementFromPoint(innerWidth / 2, innerHeight * share);
    const element = found?.closest<HTMLElement>(".part .entry, .part .later");
    const pointer = element?.dataset.pointer ?? element?.dataset.of;
    if (element && pointer !== undefined) return { element, pointer, top: element.getBoundingClientRect().top };
  }
  return undefined;
}

/** Have what was seen stay where it was, the field of a text where that was, though what is above got other heights. */
function keepInPlace({ element, pointer, top }: Seen): void {
  const now = element.isConnected ? element : document.querySelector(`[data-pointer="${CSS.escape(pointer)}"]`);
  const moved = (now?.getBoundingClientRect().top ?? top) - top;
  if (moved !== 0) scrollBy({ top: moved, behavior: "instant" });
}

const heights = new WeakMap<Element, (height: number) => void>();
let sizes: ResizeObserver | undefined;

/** Call back with the height of an element whenever it is another one; returns a function that ends it. */
function measure(element: Element, notify: (height: number) => void): () => void {
  sizes ??= new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries)
      if (contentRect.height > 0) heights.get(target)?.(contentRect.height);
  });
  heights.set(element, notify);
  sizes.observe(element);
  return () => {
    heights.delete(element);
    sizes?.unobserve(element);
  };
}

const waiting = new Set<() => void>();

/** Do something in one of the next frames, a few things in each; returns a function that gives it up. */
function soon(act: () => void): () => void {
  if (waiting.size === 0) requestAnimationFrame(doSome);
  waiting.add(act);
  return () => waiting.delete(act);
}

function doSome(): void {
  for (const act of [...waiting].slice(0, AT_A_TIME)) {
    waiting.delete(act);
    act();
  }
  if (waiting.size > 0) requestAnimationFrame(doSome);
}

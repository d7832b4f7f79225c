/** The form of a service's configuration, made from its schema. */

import { type Signal, useComputed } from "@preact/signals";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { Announcement, Field } from "../ui/elements.tsx";
import { SearchField } from "../ui/search_field.tsx";
import { count } from "./checks.ts";
import type { Edits } from "./edits.ts";
import { Members } from "./entries.tsx";
import { parent } from "./pointer.ts";
import type { SchemaNode } from "./schema.ts";
import { FormContext, FormStore, type Inputs, type Only, useForm } from "./store.ts";

export type { Only } from "./store.ts";

export interface FormProps extends Inputs {
  service: string;
  environment: string;
  /** What the user changed; the form reads and writes it. */
  edits: Signal<Edits>;
  onFilter: (filter: string, only: Only) => void;
  /** Undo a run-time change whose place has a secret below, which no edit can set again. */
  onUnset?: ((pointer: string) => void) | undefined;
  /** The field to show and to focus; each new object does it again. */
  focus?: { pointer: string } | undefined;
}

const numbers = new WeakMap<object, number>();
let nextNumber = 0;

/** Return a key for an object: a component with another one begins anew. */
function keyOf(object: object): number {
  let number = numbers.get(object);
  if (number === undefined) {
    number = nextNumber++;
    numbers.set(object, number);
  }
  return number;
}

/** Edits a configuration. It sends nothing: what is typed is in `edits`. */
export function Form(props: FormProps) {
  // What a field computes depends on its store and its schema, which stay the same as long as it is there.
  return <FormOf key={keyOf(props.edits)} {...props} />;
}

function FormOf({ service, environment, edits, onFilter, onUnset, focus, ...inputs }: FormProps) {
  const store = useMemo(() => new FormStore(edits, inputs), []);
  store.onUnset = onUnset;
  useLayoutEffect(() => store.update(inputs));
  const box = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (focus === undefined) return;
    const visible = store.visible.peek();
    // What a filter hides cannot be focused.
    if (visible !== undefined && !visible.has(focus.pointer)) onFilter("", "all");
    store.revealed.value = undefined;
    store.revealed.value = focus.pointer;
  }, [focus]);
  useEffect(
    () =>
      store.revealed.subscribe((pointer) => {
        if (pointer !== undefined && box.current !== null) focusWhenRendered(box.current, pointer);
      }),
    [store],
  );
  // The same element at each rendering of the screen around: the fields follow the signals of the store.
  const fields = useMemo(
    () => (
      <FormContext value={store}>
        <Fields />
      </FormContext>
    ),
    [store],
  );
  return (
    <form
      ref={box}
      class="config-form"
      aria-label={`Configuration of ${service} in ${environment}`}
      autocomplete="off"
      onSubmit={(event) => event.preventDefault()}
      // Before the button is gone, which it may be when the event comes back from it.
      onClickCapture={(event) => keepFocus(event, event.currentTarget)}
    >
      <FormContext value={store}>
        <Filter filter={inputs.filter} only={inputs.only} onFilter={onFilter} />
      </FormContext>
      {fields}
    </form>
  );
}

function Fields() {
  const store = useForm();
  const schema = store.schema.value;
  const none = useComputed(() => store.visible.value?.size === 0).value;
  return none ? (
    <p>No field is like that.</p>
  ) : (
    <Members key={keyOf(schema)} place={schema.root} pointer="" trail={NO_TRAIL} />
  );
}

const NO_TRAIL: readonly SchemaNode[] = [];

const CHOICES: [only: Only, title: string][] = [
  ["all", "All fields"],
  ["changed", "Changed here, not sent"],
  ["runtime", "Changed at run time"],
  ["problems", "With a problem"],
];

function Filter({ filter, only, onFilter }: Pick<FormProps, "filter" | "only" | "onFilter">) {
  const store = useForm();
  const shown = useComputed(() => countInnermost(store.visible.value)).value;
  return (
    <search class="filters">
      <SearchField
        label="Find a field"
        hint="name, description or value"
        value={filter}
        onValue={(text) => onFilter(text, only)}
      />
      <Field label="Show">
        {({ id }) => (
          <select id={id} value={only} onChange={(event) => onFilter(filter, event.currentTarget.value as Only)}>
            {CHOICES.map(([value, title]) => (
              <option key={value} value={value}>
                {title}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Announcement>{shown === undefined ? "" : `${count(shown, "field")} shown`}</Announcement>
    </search>
  );
}

/** Return how many of some places have no other one inside. */
function countInnermost(pointers: ReadonlySet<string> | undefined): number | undefined {
  if (pointers === undefined) return undefined;
  const outer = new Set([...pointers].map((pointer) => parent(pointer)));
  return [...pointers].filter((pointer) => !outer.has(pointer)).length;
}

const LONGEST_WAIT_FRAMES = 30;

/** Focus the control of a place as soon as it is rendered; of the nearest place around, if it has none of its own. */
function focusWhenRendered(form: HTMLFormElement, pointer: string): void {
  let frames = 0;
  function attempt(): void {
    const places = renderedPlaces(form);
    if (!places.has(pointer) && frames < LONGEST_WAIT_FRAMES) {
      frames += 1;
      requestAnimationFrame(attempt);
      return;
    }
    const control = firstControl(places, [pointer, ...around(pointer)]);
    control?.focus();
    control?.scrollIntoView({ block: "center" });
  }
  requestAnimationFrame(attempt);
}

/** Keep the focus in the field, or beside it, when a button of it is gone that a key pressed: "Undo" for example. */
function keepFocus(event: MouseEvent, form: HTMLFormElement): void {
  const button = (event.target as Element).closest("button");
  const field = button?.closest<HTMLElement>("[data-pointer]");
  const pointer = field?.dataset.pointer;
  // After a finger the keyboard of a phone would come up.
  if (field === null || field === undefined || pointer === undefined || event.detail > 0) return;
  const beside = [field.nextElementSibling, field.previousElementSibling].map((at) => at?.getAttribute("data-pointer"));
  requestAnimationFrame(() => {
    if (document.activeElement !== document.body) return;
    const wanted = [pointer, ...beside.filter((at) => typeof at === "string"), ...around(pointer)];
    firstControl(renderedPlaces(form), wanted)?.focus();
  });
}

function renderedPlaces(form: HTMLFormElement): Map<string | undefined, HTMLElement> {
  return new Map([...form.querySelectorAll<HTMLElement>("[data-pointer]")].map((at) => [at.dataset.pointer, at]));
}

/** Return the places around one, the nearest first. */
function around(pointer: string): string[] {
  const outer = parent(pointer);
  return outer === undefined ? [] : [outer, ...around(outer)];
}

/** Return the first control of the first of some places that is rendered. */
function firstControl(
  places: ReadonlyMap<string | undefined, HTMLElement>,
  pointers: readonly string[],
): HTMLElement | null | undefined {
  const found = pointers.map((pointer) => places.get(pointer)).find((at) => at !== undefined);
  return found?.querySelector<HTMLElement>("input, select, textarea, summary, button");
}

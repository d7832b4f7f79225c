/** The state that the fields of a form share. Each field reads signals of its own, so that typing renders one field. */

import { computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext, useState } from "preact/hooks";
import type { Problem } from "../api/client.ts";
import type { Json, JsonObject } from "../api/json.ts";
import { changesBetween, leaves } from "./changes.ts";
import { checkEdits } from "./checks.ts";
import { applyEdits, arrange, type Edits, setOpenValue, setTyped, setValue, undo } from "./edits.ts";
import { matching } from "./fields.ts";
import { type Explanation, isRuntime } from "./origins.ts";
import { find } from "./pointer.ts";
import { type SchemaTree, withPlacesAround } from "./schema.ts";

/** Which fields are shown: all, those with a change that is not sent, with a run-time change, or with a problem. */
export type Only = "all" | "changed" | "runtime" | "problems";

/** What a form shows and edits, except for its signal of edits. */
export interface Inputs {
  schema: SchemaTree;
  config: JsonObject;
  explained: Explanation | undefined;
  problems: readonly Problem[];
  readOnly: boolean;
  filter: string;
  only: Only;
}

/** The problems that the daemon told, and the configuration about which it did. */
interface Told {
  problems: readonly Problem[];
  about: JsonObject;
}

/** A form with more values than this renders only the fields near the viewport. */
const LARGE = 500;

export class FormStore {
  /** Whether the configuration has very many values. */
  readonly isLarge: boolean;
  /** What fields keep of their own, such as whether an object is open, while they are not there. */
  readonly kept = new Map<string, unknown>();
  readonly edits: Signal<Edits>;
  /** The field that is to be seen and focused, and all places around it. */
  readonly revealed = signal<string | undefined>(undefined);
  readonly inputs: Signal<Inputs>;
  /** Undoes a run-time change whose place has a secret below, which no edit can set again. */
  onUnset: ((pointer: string) => void) | undefined;
  readonly #told: Signal<Told>;
  readonly schema: ReadonlySignal<SchemaTree>;
  readonly config: ReadonlySignal<JsonObject>;
  readonly explained: ReadonlySignal<Explanation | undefined>;
  readonly readOnly: ReadonlySignal<boolean>;
  /** The configuration after the edits. */
  readonly current: ReadonlySignal<JsonObject>;
  /** The pointers of what differs, and of the places around. */
  readonly changed: ReadonlySignal<ReadonlySet<string>>;
  readonly changedLeaves: ReadonlySignal<readonly string[]>;
  /** The pointers of the places that a run-time change removed. */
  readonly removed: ReadonlySignal<readonly string[]>;
  /** The messages about each place. */
  readonly problems: ReadonlySignal<ReadonlyMap<string, readonly string[]>>;
  readonly withProblems: ReadonlySignal<ReadonlySet<string>>;
  /** The pointers of the fields that are shown, and of the places around; undefined for all. */
  readonly visible: ReadonlySignal<ReadonlySet<string> | undefined>;

  constructor(edits: Signal<Edits>, inputs: Inputs) {
    this.edits = edits;
    this.inputs = signal(inputs);
    this.isLarge = leaves(inputs.config).length > LARGE;
    this.schema = computed(() => this.inputs.value.schema);
    this.config = computed(() => this.inputs.value.config);
    this.explained = computed(() => this.inputs.value.explained);
    this.readOnly = computed(() => this.inputs.value.readOnly);
    this.current = computed(() => applyEdits(this.config.value, this.edits.value));
    this.#told = signal({ problems: inputs.problems, about: this.current.peek() });
    this.changedLeaves = computed(() => [
      ...new Set([
        ...changesBetween(this.config.value, this.current.value).map(({ pointer }) => pointer),
        ...[...this.edits.value].filter(([, { kind }]) => kind === "text" || kind === "secret").map(([place]) => place),
      ]),
    ]);
    this.changed = computed(() => withPlacesAround(this.changedLeaves.value));
    this.removed = computed(() => Object.keys(this.explained.value?.removed ?? {}));
    this.problems = computed(() => this.#problems());
    this.withProblems = computed(() => withPlacesAround(this.problems.value.keys()));
    this.visible = computed(() => this.#visible());
  }

  /** Take what the screen around shows now. */
  update(inputs: Inputs): void {
    const before = this.inputs.peek();
    if (before.problems !== inputs.problems) {
      this.#told.value = { problems: inputs.problems, about: this.current.peek() };
    }
    const names = Object.keys(inputs) as (keyof Inputs)[];
    if (names.some((name) => before[name] !== inputs[name])) this.inputs.value = inputs;
  }

  set(pointer: string, value: Json | undefined): void {
    this.edits.value = setValue(this.config.peek(), this.edits.peek(), pointer, value);
  }

  /** Set a value that somebody typed as a whole, with secrets in the open. */
  setOpen(pointer: string, value: Json): void {
    this.edits.value = setOpenValue(this.config.peek(), this.edits.peek(), pointer, value, this.schema.peek());
  }

  setText(pointer: string, text: string, message: string, { sensitive = false } = {}): void {
    const edit = { kind: "text" as const, text, message, ...(sensitive ? { sensitive } : {}) };
    this.edits.value = setTyped(this.edits.peek(), pointer, edit);
  }

  setSecret(pointer: string, text: string): void {
    this.edits.value = setTyped(this.edits.peek(), pointer, { kind: "secret", text });
  }

  undo(pointer: string): void {
    this.edits.value = undo(this.config.peek(), this.edits.peek(), pointer);
  }

  arrange(pointer: string, order: readonly (number | { value: Json })[]): void {
    this.edits.value = arrange(this.config.peek(), this.edits.peek(), pointer, order);
  }

  #problems(): Map<string, string[]> {
    const found = new Map<string, string[]>();
    const add = ({ pointer, message }: Problem) => {
      const before = found.get(pointer);
      if (before === undefined) found.set(pointer, [message]);
      else if (!before.includes(message)) before.push(message);
    };
    const { problems, about } = this.#told.value;
    const edits = this.edits.value;
    for (const problem of problems) {
      // What was changed since is another value, of which the daemon said nothing.
      const typed = edits.get(problem.pointer)?.kind === "text";
      const same = find(about, problem.pointer) === find(this.current.value, problem.pointer);
      if (same && !typed) add(problem);
    }
    for (const problem of checkEdits(this.schema.value, this.config.value, edits)) add(problem);
    return found;
  }

  #visible(): Set<string> | undefined {
    const { filter, only } = this.inputs.value;
    const words = filter.split(/\s+/).filter(Boolean);
    const chosen = this.#chosen(only);
    if (words.length === 0) return chosen;
    const shown = { config: this.config.value, current: this.current.value, removed: this.removed.value };
    const found = matching(this.schema.value.root, shown, words);
    return chosen === undefined ? found : new Set([...found].filter((pointer) => chosen.has(pointer)));
  }

  #chosen(only: Only): Set<string> | undefined {
    if (only === "changed") return withPlacesAround(this.changedLeaves.value);
    if (only === "problems") return withPlacesAround(this.problems.value.keys());
    if (only === "all") return undefined;
    const values = Object.entries(this.explained.value?.values ?? {});
    const removed = Object.entries(this.explained.value?.removed ?? {});
    return withPlacesAround([...values, ...removed].filter(([, by]) => isRuntime(by)).map(([pointer]) => pointer));
  }
}

const Context = createContext<FormStore | undefined>(undefined);
export const FormContext = Context.Provider;

export function useForm(): FormStore {
  const store = useContext(Context);
  if (store === undefined) throw new Error("A field is used outside a form.");
  return store;
}

/** As `useState`; the state of a field that comes back is what it was. */
export function useKept<T>(name: string, pointer: string, begin: () => T): [T, (value: T) => void] {
  const { kept } = useForm();
  const key = `${name} ${pointer}`;
  const [value, setValue] = useState<T>(() => (kept.has(key) ? (kept.get(key) as T) : begin()));
  return [
    value,
    (next: T) => {
      kept.set(key, next);
      setValue(next);
    },
  ];
}

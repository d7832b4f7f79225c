/** The native inputs of single values. */

import { useComputed } from "@preact/signals";
import { useId, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { format, isEqual, type Json, parse } from "../api/json.ts";
import { isHidden } from "../api/masks.ts";
import { VERBATIM } from "../ui/verbatim.ts";
import { show, typeNames } from "./checks.ts";
import { type Choice as ChoiceOfSchema, choiceTexts, chosenOf, mayBe } from "./choices.ts";
import { withTypedSecrets } from "./edits.ts";
import { type Kind, offered, whyJson } from "./fields.ts";
import { asStored, isNumberText, storedOtherwise } from "./numbers.ts";
import { find } from "./pointer.ts";
import { type Place, type SchemaNode, shownChoices } from "./schema.ts";
import { useForm } from "./store.ts";

interface ControlProps {
  id: string;
  pointer: string;
  place: Place;
  trail: readonly SchemaNode[];
  required: boolean;
  /** Whether it is an item of a list, which may be null. */
  isItem: boolean;
  /** Ids of what describes the input. */
  describedBy: string;
  invalid: boolean;
  /** The accessible name, where no label has the id. */
  name?: string | undefined;
}

/** Return what a place has now, and what it had before the edits. */
function useValue(pointer: string): { value: Json | undefined; before: Json | undefined; typed: string | undefined } {
  const form = useForm();
  const value = useComputed(() => find(form.current.value, pointer)).value;
  const before = useComputed(() => find(form.config.value, pointer)).value;
  const typed = useComputed(() => {
    const edit = form.edits.value.get(pointer);
    return edit?.kind === "text" || edit?.kind === "secret" ? edit.text : undefined;
  }).value;
  return { value, before, typed };
}

/** Return the text of an input and what changes it. While it has the focus, it keeps the text as it is typed. */
function useText(text: string, change: (text: string) => void) {
  const [typing, setTyping] = useState<string | undefined>(undefined);
  return {
    value: typing ?? text,
    onInput: (event: { currentTarget: { value: string } }) => {
      setTyping(event.currentTarget.value);
      change(event.currentTarget.value);
    },
    onBlur: () => setTyping(undefined),
  };
}

/**
 * Keep the lines of a text that is pasted into an input of one line, which would drop their ends: what takes it has to
 * become an area of text, which gets the focus.
 */
function usePastedLines(change: (text: string) => void) {
  const area = useRef<HTMLTextAreaElement>(null);
  const caret = useRef<number>(undefined);
  useLayoutEffect(() => {
    if (caret.current === undefined || area.current === null) return;
    area.current.focus();
    area.current.setSelectionRange(caret.current, caret.current);
    caret.current = undefined;
  });
  return {
    area,
    onPaste: (event: ClipboardEvent & { currentTarget: HTMLInputElement }) => {
      // The end of the last line means nothing: whole lines are copied so.
      const text = event.clipboardData?.getData("text/plain").replace(/\r\n?/g, "\n").replace(/\n$/, "") ?? "";
      const { value, selectionStart, selectionEnd, readOnly } = event.currentTarget;
      if (readOnly || !text.includes("\n")) return;
      event.preventDefault();
      const before = value.slice(0, selectionStart ?? value.length) + text;
      caret.current = before.length;
      change(before + value.slice(selectionEnd ?? value.length));
    },
  };
}

function attributes({ id, describedBy, invalid, required, name }: ControlProps) {
  return {
    id,
    "aria-describedby": describedBy || undefined,
    "aria-invalid": invalid || undefined,
    "aria-required": required || undefined,
    "aria-label": name,
  };
}

/** The control of a kind of field that is a single value. */
export function Control({ kind, ...props }: ControlProps & { kind: Kind }) {
  switch (kind) {
    case "boolean":
      return <Switch {...props} />;
    case "choice":
      return <Choice {...props} />;
    case "number":
      return <NumberInput {...props} />;
    case "secret":
      return <SecretInput {...props} />;
    case "text":
      return <TextInput {...props} />;
    default:
      return <JsonInput {...props} />;
  }
}

function TextInput(props: ControlProps) {
  const form = useForm();
  const { pointer } = props;
  const { value, before } = useValue(pointer);
  const input = useText(typeof value === "string" ? value : "", (text) => {
    // An area of text changes all ends of lines into newlines.
    const wanted = hasWindowsLines(before) ? text.replace(/\r?\n/g, "\r\n") : text;
    form.set(pointer, text === "" && before === undefined ? undefined : wanted);
  });
  const pasted = usePastedLines((text) => input.onInput({ currentTarget: { value: text } }));
  const long = useRef(typeof value === "string" && value.length > 80);
  // An input drops the ends of lines. What became an area of text stays one, so that the focus does.
  long.current ||= /[\r\n]/.test(input.value);
  if (long.current) {
    const rows = Math.min(12, Math.max(2, input.value.split("\n").length, Math.ceil(input.value.length / 60)));
    return (
      <textarea
        ref={pasted.area}
        {...attributes(props)}
        {...input}
        rows={rows}
        readOnly={form.readOnly.value}
        {...VERBATIM}
      />
    );
  }
  return (
    <input
      type="text"
      {...attributes(props)}
      {...input}
      onPaste={pasted.onPaste}
      readOnly={form.readOnly.value}
      placeholder={value === undefined ? "not set" : ""}
      autocomplete="off"
      {...VERBATIM}
    />
  );
}

function hasWindowsLines(value: Json | undefined): boolean {
  return typeof value === "string" && value.includes("\r\n") && !/(^|[^\r])\n|\r(?!\n)/.test(value);
}

/** A number is typed as a text, because an input for numbers drops what it cannot read, and rounds. */
function NumberInput(props: ControlProps) {
  const form = useForm();
  const { pointer, place, required } = props;
  const { value, before, typed } = useValue(pointer);
  const whole = !typeNames(place.node).has("number") && typeNames(place.node).has("integer");
  const input = useText(typed ?? (value === undefined ? "" : show(value, Number.POSITIVE_INFINITY)), (text) => {
    const trimmed = text.trim();
    if (isNumberText(trimmed)) {
      const number = parse(trimmed);
      // What is stored as the number that is there is no change.
      form.set(pointer, isEqual(asStored(number), before) ? before : number);
    } else if (trimmed === "" && (before === undefined || (!required && place.node.default === undefined))) {
      form.set(pointer, undefined);
    } else if (trimmed === "") form.setText(pointer, text, "is empty; type a number");
    else form.setText(pointer, text, whatNumber(whole, place.node));
  });
  const note = useId();
  return (
    <>
      <input
        type="text"
        inputMode={whole ? "numeric" : "decimal"}
        class="number"
        {...attributes({ ...props, describedBy: `${props.describedBy} ${note}` })}
        {...input}
        readOnly={form.readOnly.value}
        placeholder={value === undefined ? "not set" : ""}
        autocomplete="off"
      />
      <Stored id={note} value={value} />
    </>
  );
}

function whatNumber(whole: boolean, { types }: SchemaNode): string {
  const number = whole ? "expected a whole number, such as 10" : "expected a number, such as 1.5";
  return types?.has("string") ? `${number}; for a text, write it in Raw` : number;
}

const MOST_NOTED = 5;

/** Shows which numbers the daemon stores in another form than typed. */
function Stored({ id, value }: { id: string; value: Json | undefined }) {
  const found = value === undefined ? [] : storedOtherwise(value);
  return (
    <small id={id} class="muted" role="status">
      {found
        .slice(0, MOST_NOTED)
        .map(([pointer, message]) => `${pointer} ${message}.`.trim())
        .join(" ")}
    </small>
  );
}

function Switch(props: ControlProps) {
  const form = useForm();
  const { value } = useValue(props.pointer);
  return (
    // With its text it is as large as a finger; its name is that of the field.
    <label class="switch">
      <input
        type="checkbox"
        {...attributes(props)}
        checked={value === true}
        indeterminate={value === undefined}
        disabled={form.readOnly.value}
        onChange={(event) => form.set(props.pointer, event.currentTarget.checked)}
      />{" "}
      <span aria-hidden="true">{value === undefined ? "not set" : value ? "on" : "off"}</span>
    </label>
  );
}

function Choice(props: ControlProps) {
  const form = useForm();
  const { pointer, place, isItem } = props;
  const { value } = useValue(pointer);
  const choices = offered(place, { isItem });
  const texts = useMemo(() => choiceTexts(shownChoices(place, choices)), [choices.length, place.node]);
  const chosen = useComputed(() => {
    const now = find(form.current.value, pointer);
    const open = now === undefined ? undefined : withTypedSecrets(now, form.edits.value, pointer);
    return open === undefined ? undefined : chosenOf(offered(place, { isItem }), open);
  }).value;
  return (
    <select
      {...attributes(props)}
      disabled={form.readOnly.value}
      value={String(chosen ?? -1)}
      onChange={(event) => {
        const choice = choices[Number(event.currentTarget.value)];
        if (choice !== undefined) form.setOpen(pointer, choice.value);
      }}
    >
      {chosen === undefined && <option value="-1">{otherValue(value, choices)}</option>}
      {texts.map((text, index) => (
        // The choices of a schema keep their order.
        <option key={index} value={String(index)}>
          {text}
        </option>
      ))}
    </select>
  );
}

/** Return what a list of choices shows of a value that is none of them, or of which too little is shown. */
function otherValue(value: Json | undefined, choices: readonly ChoiceOfSchema[]): string {
  if (value === undefined) return "not set";
  const isPossible = choices.some((choice) => mayBe(choice.value, value));
  return `${show(value)} (${isPossible ? "which one is not shown" : "not allowed"})`;
}

/** A secret can be typed anew, and is never shown; until it is sent, it is in the memory of the page only. */
function SecretInput(props: ControlProps) {
  const form = useForm();
  const { pointer } = props;
  const { before, typed } = useValue(pointer);
  const [open, setOpen] = useState(false);
  const state = useId();
  const isSet = before !== undefined && before !== "";
  const change = (text: string) => {
    if (text === "") form.undo(pointer);
    else form.setSecret(pointer, text);
  };
  const pasted = usePastedLines(change);
  if (form.readOnly.value) return <output id={props.id}>{isSet ? "set, not shown" : "not set"}</output>;
  return (
    <span class="secret">
      {typed?.includes("\n") ? (
        <textarea
          ref={pasted.area}
          {...attributes({ ...props, describedBy: `${state} ${props.describedBy}` })}
          class={open ? undefined : "masked"}
          value={typed}
          rows={4}
          autocomplete="off"
          {...VERBATIM}
          onInput={(event) => change(event.currentTarget.value)}
        />
      ) : (
        <input
          {...{ type: (open ? "text" : "password") as "password" }}
          {...attributes({ ...props, describedBy: `${state} ${props.describedBy}` })}
          value={typed ?? ""}
          placeholder={isSet ? "type a new one to replace it" : "not set"}
          autocomplete="new-password"
          {...VERBATIM}
          onInput={(event) => change(event.currentTarget.value)}
          onPaste={pasted.onPaste}
        />
      )}
      {typed !== undefined && (
        <button type="button" aria-pressed={open} onClick={() => setOpen(!open)}>
          Show what I typed
        </button>
      )}
      <small id={state} class="muted">
        {typed !== undefined
          ? "A new one is typed. It is sealed before it leaves the browser, and is not kept in the draft."
          : isSet
            ? "Set; its value is not shown."
            : "Not set."}
      </small>
    </span>
  );
}

const MAY_BE_SECRET = /password|secret|key|token/i;

function JsonInput(props: ControlProps) {
  const form = useForm();
  const { pointer, place, trail } = props;
  const { value, before, typed } = useValue(pointer);
  const why = useId();
  const input = useText(typed ?? (value === undefined ? "" : format(value, 2)), (text) => {
    if (text.trim() === "" && before === undefined) return form.set(pointer, undefined);
    let read: Json;
    try {
      read = parse(text);
    } catch (error) {
      const names = form.schema.peek().secretNames;
      const named = names === undefined || [...names].some((name) => (pointer + text).includes(name));
      const sensitive = named || isHidden(value) || isHidden(before) || MAY_BE_SECRET.test(pointer + text);
      const remedy = /^\s*["{[]/.test(text) ? "" : '; a text needs quotes, as in "on"';
      return form.setText(pointer, text, `is not JSON: ${(error as Error).message}${remedy}`, { sensitive });
    }
    form.setOpen(pointer, read);
  });
  const rows = Math.min(20, Math.max(2, input.value.split("\n").length));
  return (
    <>
      <small id={why} class="muted">
        {whyJson(place, trail)}
      </small>
      <textarea
        class="json"
        {...attributes({ ...props, describedBy: `${why} ${props.describedBy} ${why}-stored` })}
        {...input}
        rows={rows}
        readOnly={form.readOnly.value}
        placeholder="not set"
        {...VERBATIM}
      />
      <Stored id={`${why}-stored`} value={value} />
    </>
  );
}

/** Small parts that all screens share. */

import { computed } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useId, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Problem, RequestError } from "../api/client.ts";
import { now } from "../store/clock.ts";
import type { Loaded } from "../store/resources.ts";

export type Tone = "neutral" | "good" | "warning" | "bad" | "info";

/** A short state in a coloured frame; its text says everything that the colour does. */
export function Tag({ tone = "neutral", children }: { tone?: Tone; children: ComponentChildren }) {
  return <span class={`tag ${tone}`}>{children}</span>;
}

/** A button that stays pressed, for one of several filters. Its sign is for those who see it. */
export function Chip({
  pressed,
  count,
  onClick,
  children,
}: {
  pressed: boolean;
  count: number | undefined;
  onClick: () => void;
  children: ComponentChildren;
}) {
  return (
    <button type="button" class="chip" aria-pressed={pressed} onClick={onClick}>
      {pressed && <span aria-hidden="true">✓ </span>}
      {children} <span class="count">{count}</span>
    </button>
  );
}

/** A message to the user; `bad` and `warning` ones are announced at once by a screen reader. */
export function Notice({
  tone = "info",
  title,
  lasting = false,
  children,
}: {
  tone?: Tone;
  title?: string;
  /** Whether it shows a state that may last for days: then a screen reader announces its title alone. */
  lasting?: boolean;
  children?: ComponentChildren;
}) {
  const role = tone === "bad" || tone === "warning" ? "alert" : "status";
  return (
    <div class={`notice ${tone}`} {...(lasting ? {} : { role })}>
      {title && <strong {...(lasting ? { role } : {})}>{title}</strong>}
      {children}
    </div>
  );
}

/** What the daemon refused, and why. Takes the focus when it appears, so that keyboard and screen reader are there. */
export function ErrorSummary({ error, onPlace }: { error: RequestError; onPlace?: (pointer: string) => void }) {
  const box = useRef<HTMLDivElement>(null);
  const title = useId();
  useEffect(() => box.current?.focus(), [error]);
  return (
    <div class="notice bad" role="alert" tabIndex={-1} ref={box} aria-labelledby={title}>
      <strong id={title}>{error.message}</strong>
      {error.problems.length > 0 && (
        <Problems problems={error.problems} {...(onPlace === undefined ? {} : { onPlace })} />
      )}
    </div>
  );
}

export function Problems({ problems, onPlace }: { problems: Problem[]; onPlace?: (pointer: string) => void }) {
  if (problems.length === 0) return null;
  return (
    <ul class="problems">
      {problems.map(({ pointer, message }) => (
        <li key={`${pointer} ${message}`}>
          {pointer &&
            (onPlace ? (
              <button type="button" class="link" onClick={() => onPlace(pointer)}>
                <code>{pointer}</code>
              </button>
            ) : (
              <code>{pointer}</code>
            ))}{" "}
          {message}
        </li>
      ))}
    </ul>
  );
}

/**
 * Show what was loaded; while nothing is there yet, that it is loading, or why it failed.
 *
 * What was loaded before stays when that fails later, but not what the caller may not read any more.
 */
export function Await<T>({
  of,
  children,
}: {
  of: Loaded<T> & { refresh?: () => Promise<void> };
  children: (data: T) => ComponentChildren;
}) {
  const { data, error, loading, refresh } = of;
  if (data === undefined || error?.code === "forbidden") {
    if (error !== undefined) {
      if (error.code === "unauthorized") return null;
      return (
        <>
          <ErrorSummary error={error} />
          {refresh !== undefined && (
            <button type="button" onClick={() => void refresh()}>
              Look again
            </button>
          )}
        </>
      );
    }
    return loading ? (
      <p class="loading" role="status">
        Loading …
      </p>
    ) : null;
  }
  return (
    <>
      {error !== undefined && error.code !== "unauthorized" && (
        <Notice tone="warning" title="This is not up to date.">
          {" "}
          {error.message}
        </Notice>
      )}
      {children(data)}
    </>
  );
}

const SECONDS = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_557_600],
  ["month", 2_629_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** Return a time in words, such as "3 minutes ago". `seconds` is a Unix time. */
export function ago(seconds: number, present = Date.now() / 1000): string {
  const passed = seconds - present;
  for (const [unit, length] of UNITS) {
    if (Math.abs(passed) >= length) return SECONDS.format(Math.trunc(passed / length), unit);
  }
  return "just now";
}

/** The last time that a browser knows as a date, in Unix seconds: in the year 275760. */
const LAST_SECONDS = 8.64e12;

function isDate(seconds: number): boolean {
  return Math.abs(seconds) <= LAST_SECONDS;
}

/** Return a time as date and time of this place. `seconds` is a Unix time. */
export function moment(seconds: number): string {
  return isDate(seconds) ? MOMENT.format(seconds * 1000) : "no date";
}

/** A Unix time in words, with the date and time as its title. */
export function Time({ seconds }: { seconds: number | null | undefined }) {
  if (seconds === null || seconds === undefined) return <span class="muted">never</span>;
  return <Ago seconds={Number(seconds)} />;
}

function Ago({ seconds }: { seconds: number }) {
  // A signal as text: when the clock goes on, only the text is written again, and only if it is another one.
  const text = useMemo(() => computed(() => ago(seconds, now.value)), [seconds]);
  return (
    <time dateTime={isDate(seconds) ? new Date(seconds * 1000).toISOString() : ""} title={moment(seconds)}>
      {text}
    </time>
  );
}

/** A labelled control with a hint below it. */
export function Field({
  label,
  hint,
  children,
}: {
  label: string;
  hint?: ComponentChildren;
  children: (ids: { id: string; hint: string | undefined }) => JSX.Element;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, hint: hint === undefined ? undefined : `${id}-hint` })}
      {hint !== undefined && (
        <small id={`${id}-hint`} class="muted">
          {hint}
        </small>
      )}
    </div>
  );
}

/** The comment of a change, which stands in the history; the daemon takes 1,024 characters. */
export function CommentField({ value, onValue }: { value: string; onValue: (text: string) => void }) {
  return (
    <Field label="Comment" hint="For the history. It may stay empty.">
      {({ id, hint }) => (
        <input
          id={id}
          aria-describedby={hint}
          maxLength={1024}
          autoComplete="off"
          value={value}
          onInput={(event) => onValue(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

/** The number of dialogs on the page: the next one may be mounted before the last one is unmounted. */
let dialogs = 0;
/** What had the focus before the first of them. */
let opener: HTMLElement | undefined;

/** Give the focus back, once no dialog is there any more that would keep it. */
function returnFocus(): void {
  if (dialogs > 0) return;
  const to = opener?.isConnected ? opener : document.querySelector<HTMLElement>("main h1");
  opener = undefined;
  // What the dialog did may have it already, as the message that something is done. The page stays where it was read.
  if (document.activeElement === document.body) to?.focus({ preventScroll: true });
}

/**
 * A modal dialog of the browser: Escape closes it, the focus stays inside and returns afterwards; to the heading of the
 * screen, if the page was loaded with the dialog.
 */
export function Dialog({
  title,
  wide = false,
  keepsOpen = false,
  onClose,
  children,
}: {
  title: string;
  wide?: boolean;
  /** Whether Escape leaves it open: it shows what is shown nowhere else. */
  keepsOpen?: boolean;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const focused = document.activeElement;
    if (opener === undefined && focused instanceof HTMLElement && focused !== document.body) opener = focused;
    dialogs += 1;
    dialog.current?.showModal();
    // Of a long one the beginning is read first, rather than the first control, which may be at its end.
    if (wide) dialog.current?.querySelector("h2")?.focus();
    return () => {
      dialogs -= 1;
      queueMicrotask(returnFocus);
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "wide" : ""}
      aria-labelledby={heading}
      // Without it a second Escape closes the dialog all the same.
      {...(keepsOpen ? { closedby: "none" } : {})}
      onCancel={(event) => keepsOpen && event.preventDefault()}
      onClose={onClose}
    >
      {/* WebKit gives the focus to the first element that can have it, other browsers to the first control. */}
      <h2 id={heading} {...(wide ? { tabIndex: -1 } : {})}>
        {title}
      </h2>
      {children}
    </dialog>
  );
}

/**
 * Return what to give to the heading of a part that takes the place of another one on a screen: it takes the focus, and
 * gives it to the heading of the screen when the part goes.
 */
export function usePartHeading() {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    heading.current?.focus();
    return () => queueMicrotask(returnFocus);
  }, []);
  return heading;
}

/** A line that a screen reader reads out whenever its text changes, and that nobody sees. */
export function Announcement({ children }: { children: ComponentChildren }) {
  return (
    <p class="visually-hidden" aria-live="polite">
      {children}
    </p>
  );
}

/** Set the title of the window and the heading of the screen, which takes the focus after a change of the screen. */
export function Heading({ title, children }: { title: string; children?: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  // Before what a screen does by effects: the focus shows the beginning of the page, and a part may be to be shown.
  useLayoutEffect(() => {
    document.title = `${title} · aliciacfg`;
    // Not at the first screen: there the browser's own order is right.
    if (document.body.dataset.moved !== undefined) heading.current?.focus();
    document.body.dataset.moved = "";
  }, [title]);
  return (
    <header class="heading">
      <h1 ref={heading} tabIndex={-1}>
        {title}
      </h1>
      {children}
    </header>
  );
}

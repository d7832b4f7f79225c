/** The bar at the foot of the screen: what is edited, what others changed meanwhile, and what was applied. */

import type { Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { health } from "../api/queries.ts";
import { hasSecrets, unsent } from "../form/edits.ts";
import { invalidate, useResource } from "../store/resources.ts";
import { Differences } from "../ui/differences.tsx";
import { Announcement, Dialog, Problems, Time } from "../ui/elements.tsx";
import { visible } from "../ui/value_rows.ts";
import { counted } from "../ui/words.ts";
import { appliedText } from "./applied_text.ts";
import { Authors } from "./conflict_choice.tsx";
import { waitsForBroker } from "./published.ts";
import { authorOf } from "./revisions.ts";
import type { OtherDraft, Session } from "./session.ts";

export interface EditBarProps {
  session: Session;
  /** Why nothing can be sent; undefined if it can. */
  readOnly: string | undefined;
  /** Whether the review is open, outside of which nothing can take the focus. */
  reviewing: boolean;
  onReview: () => void;
  onUndo: () => void;
  onDiscard: () => void;
  onPlace: (pointer: string) => void;
}

export function EditBar({ session, readOnly, reviewing, onReview, onUndo, onDiscard, onPlace }: EditBarProps) {
  const count = session.edits.value.size;
  const why = session.text.value?.broken;
  const broken = why !== undefined;
  useLeaving(session);
  const box = useRef<HTMLElement>(null);
  useRoom(box);
  const problems = unsent(session.edits.value);
  const edited = count > 0 || broken;
  const fate = useFate(session);
  return (
    <section class="edit-bar" aria-label="Unsent edits" ref={box}>
      {/* The most urgent first: a small screen shows one at a time, the next when that is done. */}
      <Unfinished session={session} onReview={onReview} />
      {session.conflicts.value.length > 0 && (
        <div class="line warning">
          <p>
            <strong>{counted(session.conflicts.value.length, "place")} that you edited changed meanwhile.</strong>{" "}
            Nothing is overwritten before you decide.
          </p>
          <button type="button" onClick={onReview}>
            Compare and decide …
          </button>
        </div>
      )}
      <Applied session={session} fate={fate} reviewing={reviewing} onUndo={onUndo} />
      {session.conflicts.value.length === 0 && <Newer session={session} />}
      <Restored session={session} />
      {session.unkept.value && (
        <div class="line bad" role="alert">
          <p>
            <strong>The browser does not keep your edits</strong>, because its storage is full or denied. They are lost
            when this page is closed.
          </p>
        </div>
      )}
      {session.others.value.map((other) => (
        <Other key={other.tab} session={session} other={other} />
      ))}
      {edited && (
        <div class="line edits">
          <p>
            {count > 0 && (
              <strong class="whole">
                {count} <span class="not-on-phones">unsent </span>
                {count === 1 ? "edit" : "edits"}
              </strong>
            )}
            {broken && `${count > 0 ? " and a" : "A"} text that is no configuration yet (${why})`}
            {session.hasUnkeptText && ", which is not kept when the page is closed: a secret may stand in it"}
            {readOnly !== undefined && ` that cannot be sent: ${readOnly}`}
          </p>
          {problems.length > 0 && <Problems problems={problems} onPlace={onPlace} />}
          <div class="buttons">
            <button
              type="button"
              class="primary"
              disabled={readOnly !== undefined}
              onClick={onReview}
              aria-keyshortcuts="Control+S"
              title="Ctrl+S"
            >
              Review …
            </button>
            <button type="button" onClick={onDiscard}>
              Discard …
            </button>
          </div>
        </div>
      )}
      <Announcement>{announced(session, fate)}</Announcement>
    </section>
  );
}

/** Asks whether the edits of a service are to be thrown away. */
export function DiscardDialog({ session, onClose }: { session: Session; onClose: () => void }) {
  const { service, environment, isEdited, edits } = session;
  const count = Math.max(session.edits.value.size, 1);
  return (
    <Dialog title="Discard the edits?" onClose={onClose}>
      <p>
        {isEdited
          ? `${counted(count, "place")} of ${service} in ${environment}. What you typed cannot be brought back.`
          : "Nothing is edited."}
      </p>
      {edits.value.size > 0 && (
        <ul class="pointers">
          {[...edits.value.keys()].map((pointer) => (
            <li key={pointer}>
              <code>{visible(pointer)}</code>
            </li>
          ))}
        </ul>
      )}
      <div class="buttons">
        <button
          type="button"
          class="danger"
          onClick={() => {
            session.discard();
            onClose();
          }}
        >
          Discard
        </button>
        <button type="button" onClick={onClose}>
          Keep them
        </button>
      </div>
    </Dialog>
  );
}

function announced(session: Session, fate: Fate | undefined): string {
  const [news, conflicts] = [session.news.value, session.conflicts.value];
  if (conflicts.length > 0) return `${counted(conflicts.length, "place")} that you edited changed meanwhile.`;
  if (news !== undefined) {
    const author = authorOf(news);
    // Said once, with everything that there is to say.
    return author === undefined ? "" : `Revision ${news.revision} by ${author} is shown.`;
  }
  return fate?.text ?? "";
}

const CONFIRMED_MS = 2000;

/** What became of the last write of this page. */
interface Fate {
  text: string;
  waits: boolean;
}

function useFate(session: Session): Fate | undefined {
  const { data: daemon } = useResource("health", health, ["health", "environment"]);
  const applied = session.applied.value;
  useEffect(() => {
    // By then the broker has it; or it hangs, which the daemon did not know when it answered.
    const timer = applied === undefined ? undefined : setTimeout(() => invalidate("health"), CONFIRMED_MS);
    return () => clearTimeout(timer);
  }, [applied]);
  if (applied === undefined) return undefined;
  const waits = waitsForBroker(applied, session.environment, daemon);
  const { revision } = applied;
  const newest = session.base.value.revision;
  const { environment } = session;
  return { waits, text: appliedText({ revision, newest, environment, active: daemon?.environment, waits }) };
}

/** What had the focus once; who comes back to the screen is not taken there again. */
const seen = new WeakSet<object>();

/** What this page applied last. Takes the focus, because the button that was pressed is gone. */
function Applied({
  session,
  fate,
  reviewing,
  onUndo,
}: {
  session: Session;
  fate: Fate | undefined;
  reviewing: boolean;
  onUndo: () => void;
}) {
  const applied = session.applied.value;
  const line = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // A new service has another screen as soon as it has a configuration: the line that had the focus is gone.
    if (applied === undefined || reviewing || (seen.has(applied) && document.activeElement !== document.body)) return;
    seen.add(applied);
    line.current?.focus({ preventScroll: true });
  }, [applied, reviewing]);
  if (applied === undefined || fate === undefined) return null;
  const { before, changes, restart, how } = applied;
  return (
    <div class={`line ${fate.waits ? "info" : "good"}`} tabIndex={-1} ref={line}>
      <p>
        <strong>{fate.text}</strong>{" "}
        {how === "rollback"
          ? `What revision ${before} changed is undone: ${counted(changes.length, "place")}.`
          : `${counted(changes.length, "place")} changed.`}
        {restart.length > 0 &&
          ` ${counted(restart.length, "place")} ${restart.length === 1 ? "takes" : "take"} effect after a restart of ${session.service}.`}
      </p>
      <div class="buttons">
        {before > 0 && (
          <button type="button" onClick={onUndo}>
            Undo …
          </button>
        )}
        <Dismiss message={session.applied} />
      </div>
    </div>
  );
}

/** A write that goes on, or that failed, after its review was closed. */
function Unfinished({ session, onReview }: { session: Session; onReview: () => void }) {
  const failure = session.failure.value;
  const sending = session.sending.value;
  if (sending !== undefined) {
    return (
      <div class="line info" role="status">
        <p>{sending}</p>
      </div>
    );
  }
  if (failure === undefined || failure.kind === "conflict") return null;
  return (
    <div class="line bad" role="alert">
      <p>
        <strong>
          {failure.kind === "unknown"
            ? "It is not known whether your change was applied."
            : "Your change was not applied."}
        </strong>{" "}
        {visible(failure.error.message)}
      </p>
      <button type="button" onClick={onReview}>
        {failure.kind === "refused" ? "Review …" : "Ask again …"}
      </button>
    </div>
  );
}

/** What others changed while the user looked. It is in the form already. */
function Newer({ session }: { session: Session }) {
  const news = session.news.value;
  if (news === undefined) return null;
  const entry = news.entries.find(({ revision }) => revision === news.revision);
  const author = authorOf(news);
  return (
    <div class="line info">
      <div>
        <strong>Revision {news.revision}</strong>
        {author !== undefined && ` by ${visible(author)}`}
        {entry !== undefined && (
          <>
            , <Time seconds={entry.timestamp} />,
          </>
        )}{" "}
        is shown now.
        {news.changes.length > 0 && (
          <details>
            <summary>{counted(news.changes.length, "place")} changed</summary>
            <Authors news={news} />
            <Differences changes={news.changes} old="before" new="now" />
          </details>
        )}
      </div>
      <Dismiss message={session.news} />
    </div>
  );
}

/** What the draft is, as long as something of it is there; the line of the edits discards it. */
function Restored({ session }: { session: Session }) {
  const draft = session.restored.value;
  if (draft === undefined) return null;
  const edits = session.edits.value;
  const untyped = draft.secrets.filter((pointer) => edits.get(pointer)?.kind !== "secret");
  if (!session.isEdited && untyped.length === 0) return null;
  return (
    <div class="line info" role="status">
      <div>
        <strong>Your draft was restored.</strong> It was kept <Time seconds={draft.time} />, on revision{" "}
        {draft.revision}.
        {untyped.length > 0 && (
          <p>
            Secrets are never kept. Type them again:{" "}
            {untyped.map((pointer) => (
              <code key={pointer}>{pointer} </code>
            ))}
          </p>
        )}
      </div>
      <Dismiss message={session.restored} />
    </div>
  );
}

function Dismiss<T>({ message }: { message: Signal<T | undefined> }) {
  return (
    <button
      type="button"
      class="dismiss"
      aria-label="Dismiss"
      title="Dismiss"
      onClick={() => {
        message.value = undefined;
      }}
    >
      ✕
    </button>
  );
}

function Other({ session, other }: { session: Session; other: OtherDraft }) {
  const count = counted(other.draft.edits.size, "place");
  return (
    <div class="line info">
      <p>
        {other.open ? "Another tab" : "A tab that was closed"} has unsent edits of this service: {count},{" "}
        <Time seconds={other.draft.time} />.
      </p>
      {!other.open && (
        <div class="buttons">
          <button type="button" onClick={() => session.exchange(other)}>
            Use that draft
          </button>
          <button type="button" onClick={() => session.dropOther(other.tab)}>
            Discard that draft
          </button>
        </div>
      )}
    </div>
  );
}

const BELOW_PIXELS = 40;

/** Keep the field that has the focus in sight when the bar, which lies over the page, grows. */
function useRoom(box: { current: HTMLElement | null }): void {
  useEffect(() => {
    const bar = box.current;
    if (bar === null) return;
    const root = document.documentElement;
    const observer = new ResizeObserver(() => {
      root.style.setProperty("--edit-bar", `${bar.offsetHeight}px`);
      const focused = document.activeElement;
      if (focused === null || focused === document.body || bar.contains(focused)) return;
      const { top, bottom } = focused.getBoundingClientRect();
      const edge = bar.getBoundingClientRect().top;
      // What a field says of its value stands below it.
      if (bottom + BELOW_PIXELS > edge && top < innerHeight) focused.scrollIntoView({ block: "nearest" });
    });
    observer.observe(bar);
    return () => {
      observer.disconnect();
      root.style.removeProperty("--edit-bar");
    };
  }, []);
}

/** Have the browser ask before the page is left with something that no draft has. */
function useLeaving(session: Session): void {
  useEffect(() => {
    const ask = (event: BeforeUnloadEvent) => {
      const lost = (session.unkept.peek() && session.isEdited) || session.hasUnkeptText;
      if (lost || hasSecrets(session.edits.peek())) event.preventDefault();
    };
    window.addEventListener("beforeunload", ask);
    return () => window.removeEventListener("beforeunload", ask);
  }, [session]);
}

/** Shows what both the user and somebody else changed, side by side, and asks whose value counts. */

import { format, type Json } from "../api/json.ts";
import type { Edit } from "../form/edits.ts";
import { Time } from "../ui/elements.tsx";
import { text, visible } from "../ui/value_rows.ts";
import type { Conflict } from "./conflicts.ts";
import type { News } from "./revisions.ts";
import type { Session } from "./session.ts";

export function Conflicts({ session }: { session: Session }) {
  const conflicts = session.conflicts.value;
  if (conflicts.length === 0) return null;
  return (
    <section class="conflicts" aria-label="Conflicts">
      <h3>
        {conflicts.length === 1
          ? "One place was changed by you and by somebody else"
          : `${conflicts.length} places were changed by you and by others`}
      </h3>
      <Authors news={session.news.value} />
      {conflicts.map((conflict) => (
        <Choice key={conflict.pointer} session={session} conflict={conflict} />
      ))}
      {conflicts.length > 1 && (
        <div class="buttons">
          <button type="button" onClick={() => decideAll(session, "mine")}>
            Keep all of mine
          </button>
          <button type="button" onClick={() => decideAll(session, "theirs")}>
            Take all of theirs
          </button>
        </div>
      )}
    </section>
  );
}

function decideAll(session: Session, whose: "mine" | "theirs"): void {
  for (const { pointer } of session.conflicts.peek()) session.decide(pointer, whose);
}

/** Decide a conflict; the focus goes to the next one, or to the beginning of the review. */
function decide(session: Session, pointer: string, whose: "mine" | "theirs", button: HTMLElement): void {
  const dialog = button.closest("dialog");
  session.decide(pointer, whose);
  requestAnimationFrame(() => dialog?.querySelector<HTMLElement>(".conflict button, h2")?.focus());
}

/** Who made the newer revisions, when and why. */
export function Authors({ news }: { news: News | undefined }) {
  if (news === undefined || news.entries.length === 0) return null;
  return (
    <ul class="authors">
      {news.entries.slice(0, 5).map(({ revision, author, timestamp, comment, cause, changed }) => (
        <li key={revision}>
          Revision {revision} by {visible(author)}
          {cause !== "api" && ` (${cause})`}, <Time seconds={timestamp} />: {places(changed)}
          {comment && <q>{visible(comment)}</q>}
        </li>
      ))}
    </ul>
  );
}

function places(changed: readonly string[]) {
  const shown = changed.slice(0, 4);
  return (
    <>
      {shown.map((pointer, index) => (
        <span key={pointer}>
          {index > 0 && ", "}
          <code>{visible(pointer)}</code>
        </span>
      ))}
      {changed.length > shown.length && ` and ${changed.length - shown.length} more`}{" "}
    </>
  );
}

function Choice({ session, conflict: { pointer, before, theirs } }: { session: Session; conflict: Conflict }) {
  const edit = session.edits.value.get(pointer);
  return (
    <fieldset class="conflict">
      <legend>
        <code>{visible(pointer)}</code>
      </legend>
      <dl class="sides">
        <div>
          <dt>Before</dt>
          <dd>
            <Value value={before} />
          </dd>
        </div>
        <div>
          <dt>Mine</dt>
          <dd>
            <Mine edit={edit} />
          </dd>
        </div>
        <div>
          <dt>Theirs</dt>
          <dd>
            <Value value={theirs} />
          </dd>
        </div>
      </dl>
      <div class="buttons">
        <button type="button" onClick={(event) => decide(session, pointer, "mine", event.currentTarget)}>
          Keep mine
        </button>
        <button type="button" onClick={(event) => decide(session, pointer, "theirs", event.currentTarget)}>
          Take theirs
        </button>
      </div>
    </fieldset>
  );
}

function Mine({ edit }: { edit: Edit | undefined }) {
  if (edit === undefined) return <span class="muted">nothing</span>;
  switch (edit.kind) {
    case "set":
      return <Value value={edit.value} />;
    case "remove":
      return <Value value={undefined} />;
    case "secret":
      return <span class="muted">a secret that you typed</span>;
    case "text":
      return <code>{visible(format(edit.text))}</code>;
  }
}

function Value({ value }: { value: Json | undefined }) {
  if (value === undefined) return <span class="muted">no value</span>;
  if (value === "***") return <span class="muted">a secret, not shown</span>;
  return <code>{text(value).split("\n").map(visible).join("\n")}</code>;
}

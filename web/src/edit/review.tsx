/** The review: what a write would change, tried out by the daemon, before anything is sent. */

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { JsonObject } from "../api/json.ts";
import { Differences } from "../ui/differences.tsx";
import { Disclosure } from "../ui/disclosure.tsx";
import { Announcement, Dialog, Field, Notice } from "../ui/elements.tsx";
import { applyWrite, changesOf, type Tried } from "./applying.ts";
import { Authors, Conflicts } from "./conflict_choice.tsx";
import { Breaking, Failed, Hindrance } from "./hindrances.tsx";
import { Lazy } from "./lazy.tsx";
import type { Reviewed } from "./reviewed.ts";
import type { Session } from "./session.ts";
import { type Trial, useTrial } from "./trial.ts";
import type { WriteAnswer } from "./write.ts";
import { HiddenValues, WriteWarnings } from "./write_warnings.tsx";

/** As the daemon's limit. */
const COMMENT_LENGTH = 1024;

export interface ReviewProps {
  session: Session;
  of: Reviewed;
  isProtected: boolean;
  /** Whether the whole document is shown at first, as for the raw editor. */
  whole: boolean;
  onClose: () => void;
  /** Goes to the field of a place. */
  onPlace: (pointer: string) => void;
}

export function Review({ session, of, isProtected, whole, onClose, onPlace }: ReviewProps) {
  const [allowed, setAllowed] = useState<string>();
  const [again, setAgain] = useState(0);
  const applying = useRef(false);
  const [before] = useState(session.applied.peek());
  // What is in force is not tried out again, and the review shows it as it was until it is closed.
  const isApplied = applying.current && session.applied.value !== before;
  const content = useRef<ComponentChildren>(null);
  const trial = useTrial(session, of, again, isApplied);
  const breaking = trial.state === "ready" ? trial.breaking : undefined;
  const tried = trial.state === "ready" ? trial.answer : undefined;
  // What is allowed is exactly what was listed.
  const listed = breaking?.problems.map(({ pointer, message }) => `${pointer} ${message}`).join("\n");
  const mayApply = trial.state === "ready" && (listed === undefined || listed === allowed);
  const [since] = useState(session.base.peek().revision);
  const retry = () => setAgain((times) => times + 1);
  const sending = session.sending.value;
  const failure = session.failure.value;
  const shown = useRef(true);
  useEffect(
    () => () => {
      shown.current = false;
    },
    [],
  );

  async function apply(tried: Tried, open: boolean) {
    applying.current = true;
    const done = await applyWrite(session, tried, open);
    if (!done) applying.current = false;
    else if (shown.current) onClose();
  }

  const unknown = failure?.kind === "unknown" || failure?.kind === "waiting";
  if (!isApplied)
    content.current = (
      <form
        class="edit-review"
        onSubmit={(event) => {
          event.preventDefault();
          if (sending !== undefined) return;
          if (failure !== undefined && unknown) void apply(failure, failure.kind === "unknown");
          else if (trial.state === "ready" && mayApply) {
            const { answer, sent } = trial;
            void apply(
              { write: { ...trial.write, comment: session.comment.peek().trim() }, trial: answer, sent },
              false,
            );
          }
        }}
      >
        {failure !== undefined && <Failed failure={failure} onPlace={onPlace} />}
        <Conflicts session={session} />
        <Overtaken session={session} since={since} />
        {breaking !== undefined && tried !== undefined && (
          <Breaking
            error={breaking}
            answer={tried}
            allowed={mayApply}
            onAllow={(nevertheless) => setAllowed(nevertheless ? listed : undefined)}
          />
        )}
        <Hindrance trial={trial} session={session} of={of} onPlace={onPlace} onRetry={retry} />
        {trial.state === "ready" && !unknown && (
          <>
            <Effects trial={trial} session={session} isProtected={isProtected} />
            <Whole session={session} answer={trial.answer} open={whole} />
            <Comment session={session} />
          </>
        )}
        <Announcement>
          {sending ??
            (trial.state === "ready" ? summary(changesOf(session.base.peek().config, trial.answer).length) : "")}
        </Announcement>
        {sending !== undefined && <p class="loading">{sending}</p>}
        <div class="buttons">
          {unknown ? (
            <button type="submit" class="primary" disabled={sending !== undefined}>
              Ask again
            </button>
          ) : (
            <button type="submit" class="primary" disabled={!mayApply || sending !== undefined}>
              Apply to {session.environment}
            </button>
          )}
          <button type="button" onClick={onClose}>
            {of.kind === "edits" ? "Back to editing" : "Cancel"}
          </button>
        </div>
      </form>
    );
  return (
    <Dialog title={titleOf(of, since)} onClose={onClose} wide>
      {content.current}
    </Dialog>
  );
}

/** Says what others changed while the review was open. */
function Overtaken({ session, since }: { session: Session; since: number }) {
  const news = session.news.value;
  if (news === undefined || news.revision <= since || session.conflicts.value.length > 0) return null;
  return (
    <Notice title={`Revision ${news.revision} was made meanwhile and is taken over.`}>
      <Authors news={news} />
    </Notice>
  );
}

/** Return what is reviewed in words; the address of an undo may be from before others changed something. */
function titleOf(of: Reviewed, since: number): string {
  if (of.kind === "edits") return "Review";
  if (of.kind === "unset") return "Review of the reset";
  return of.revision === since - 1 ? "Review of the undo" : `Back to the values of revision ${of.revision}`;
}

function summary(count: number): string {
  return count === 1 ? "One place would change." : `${count} places would change.`;
}

/** What the write changes, and what it means. */
function Effects({
  trial,
  session,
  isProtected,
}: {
  trial: Trial & { state: "ready" };
  session: Session;
  isProtected: boolean;
}) {
  const { answer } = trial;
  const changes = useMemo(() => changesOf(session.base.peek().config, answer), [answer]);
  const restart = answer.restart_required;
  return (
    <>
      {isProtected && (
        <Notice tone="warning" title={`${session.environment} is protected.`}>
          <p>
            {trial.write.revision === 0
              ? `It is applied only while ${session.service} has no configuration here.`
              : `The change is applied only while revision ${trial.write.revision}, which you see here, is the newest one.`}
          </p>
        </Notice>
      )}
      <WriteWarnings answer={answer} />
      <p>
        {answer.message}. {summary(changes.length)}
        {restart.length > 0 &&
          ` ${restart.length === 1 ? "One takes" : `${restart.length} take`} effect after a restart of ${session.service}.`}
      </p>
      <Differences changes={changes} restart={restart} old="in force" new="new" />
      <HiddenValues answer={answer} />
    </>
  );
}

function Whole({ session, answer, open }: { session: Session; answer: WriteAnswer; open: boolean }) {
  return (
    <Disclosure name="-whole" open={open} summary="The whole configuration, side by side">
      <Lazy
        load={() => import("./merge_view.tsx").then((module) => module.WholeDocuments)}
        props={{
          before: session.base.value.config,
          after: answer.config as JsonObject,
          format: session.text.peek()?.format ?? "json",
        }}
      />
    </Disclosure>
  );
}

function Comment({ session }: { session: Session }) {
  return (
    <Field label="Comment" hint="For the history: why. Optional.">
      {({ id, hint }) => (
        <input
          id={id}
          aria-describedby={hint}
          type="text"
          maxLength={COMMENT_LENGTH}
          autoComplete="off"
          value={session.comment.value}
          onInput={(event) => {
            session.comment.value = event.currentTarget.value;
          }}
        />
      )}
    </Field>
  );
}

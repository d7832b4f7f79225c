/** The review: what a write would change, tried out by the daemon, before anything is sent. */

import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { failure, RequestError, token, unauthorized } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";
import { type Edits, hasSecrets, NO_EDITS, toMergePatch, unsent } from "../form/edits.ts";
import type { Key } from "../form/sealing.ts";
import { Differences } from "../ui/differences.tsx";
import { Announcement, Dialog, ErrorSummary, Field, Notice, Problems } from "../ui/elements.tsx";
import { TokenDialog } from "../ui/token_dialog.tsx";
import { visible } from "../ui/value_rows.ts";
import { applyWrite, catchUp, changesOf, type Tried } from "./applying.ts";
import { Authors, Conflicts } from "./conflict_choice.tsx";
import { Lazy } from "./lazy.tsx";
import { randomId } from "./random.ts";
import type { Failure, Reviewed, Session } from "./session.ts";
import { send, type Write, type WriteAnswer } from "./write.ts";

/** As the daemon's limit. */
const COMMENT_LENGTH = 1024;

export interface ReviewProps {
  session: Session;
  isProtected: boolean;
  /** Whether the whole document is shown at first, as for the raw editor. */
  whole: boolean;
  onClose: () => void;
  /** Goes to the field of a place. */
  onPlace: (pointer: string) => void;
}

type Trial =
  | { state: "trying" | "undecided" | "nothing" }
  | { state: "unsent" }
  | { state: "refused"; error: RequestError }
  | { state: "new key"; message: string; key: Key }
  /** `breaking`: why the daemon does it only if the user allows it. */
  | { state: "ready"; write: Write; answer: WriteAnswer; sent: Edits; breaking?: RequestError };

export function Review({ session, isProtected, whole, onClose, onPlace }: ReviewProps) {
  const of = session.reviewed.value;
  const [allowed, setAllowed] = useState<string>();
  const [again, setAgain] = useState(0);
  const trial = useTrial(session, of, again);
  const breaking = trial.state === "ready" ? trial.breaking : undefined;
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
    const done = await applyWrite(session, tried, open);
    if (done && shown.current) onClose();
  }

  const unknown = failure?.kind === "unknown" || failure?.kind === "waiting";
  return (
    <>
      <Dialog title={TITLES[of.kind]} onClose={onClose} wide>
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
          {breaking !== undefined && (
            <Breaking
              error={breaking}
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
      </Dialog>
      <Asking />
    </>
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

const TITLES: Record<Reviewed["kind"], string> = {
  edits: "Review",
  rollback: "Review of the undo",
  unset: "Review of the reset",
};

function summary(count: number): string {
  return count === 1 ? "One place would change." : `${count} places would change.`;
}

/** Try out what is reviewed, anew whenever it or the revision below it changes. */
function useTrial(session: Session, of: Reviewed, again: number): Trial {
  const edits = session.edits.value;
  const base = session.base.value;
  const undecided = session.conflicts.value.length > 0;
  const [trial, setTrial] = useState<Trial>({ state: "trying" });
  useEffect(() => {
    let wanted = true;
    const set = (next: Trial) => wanted && setTrial(next);
    if (undecided && of.kind === "edits") set({ state: "undecided" });
    else {
      set({ state: "trying" });
      void tryOut(session, of, edits, () => wanted).then((next) => {
        if (wanted && next.state !== "trying")
          session.problems.value = next.state === "refused" ? next.error.problems : [];
        set(next);
      });
    }
    return () => {
      wanted = false;
    };
  }, [session, of, again, edits, base, undecided, token.value]);
  return trial;
}

async function tryOut(session: Session, of: Reviewed, edits: Edits, wanted: () => boolean): Promise<Trial> {
  if (of.kind === "edits" && (session.text.peek()?.broken !== undefined || unsent(edits).length > 0))
    return { state: "unsent" };
  const { config, revision } = session.base.peek();
  for (let attempt = 1; ; attempt += 1) {
    let breaking: RequestError | undefined;
    try {
      const change = await changeOf(session, of, config, edits);
      if (change === undefined) return { state: "nothing" };
      const write: Write = {
        service: session.service,
        environment: session.environment,
        revision,
        change,
        comment: "",
        allowBreaking: false,
        requestId: randomId(),
      };
      const answer = await send(write, { dryRun: true }).catch((error) => {
        if (!(error instanceof RequestError) || error.code !== "incompatible") throw error;
        breaking = error;
        write.allowBreaking = true;
        return send(write, { dryRun: true });
      });
      if (answer.unchanged && revision > 0) return { state: "nothing" };
      const sent = of.kind === "edits" ? edits : NO_EDITS;
      return { state: "ready", write, answer, sent, ...(breaking === undefined ? {} : { breaking }) };
    } catch (error) {
      if (isNewKey(error)) return { state: "new key", message: error.message, key: error.key };
      const refused = failure(error);
      if (refused.code === "conflict") await catchUp(session, refused);
      const later = refused.code === "busy" || refused.code === "unavailable";
      if (!later || attempt === 4 || !wanted()) return { state: "refused", error: refused };
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(refused.retryAfter ?? attempt, 10)));
    }
  }
}

/** Return what is sent; undefined if it changes nothing. */
async function changeOf(
  session: Session,
  of: Reviewed,
  config: JsonObject,
  edits: Edits,
): Promise<Write["change"] | undefined> {
  if (of.kind !== "edits") return of;
  const { service, environment } = session;
  // The library that seals is loaded when there is a secret.
  const sealed = hasSecrets(edits)
    ? await (await import("../form/sealing.ts")).sealEdits(edits, { service, environment })
    : edits;
  const patch = toMergePatch(config, sealed);
  if (session.base.peek().absent) return { kind: "create", config: patch };
  if (Object.keys(patch).length === 0 && session.base.peek().revision > 0) return undefined;
  return { kind: "patch", patch };
}

function isNewKey(error: unknown): error is Error & { key: Key } {
  return error instanceof Error && "key" in error;
}

interface HindranceProps {
  trial: Trial;
  session: Session;
  of: Reviewed;
  onPlace: (pointer: string) => void;
  onRetry: () => void;
}

/** What hinders the write, if anything does. */
function Hindrance({ trial, session, of, onPlace, onRetry }: HindranceProps) {
  switch (trial.state) {
    case "trying":
      return (
        <p class="loading" role="status">
          Trying it out …
        </p>
      );
    case "undecided":
      return <p>Decide each of them; then the daemon tries out the rest.</p>;
    case "nothing":
      return (
        <Notice title="Nothing differs from what is in force.">
          {of.kind === "edits" && session.edits.value.size > 0 && (
            <button type="button" onClick={() => session.discard()}>
              Discard the edits
            </button>
          )}
        </Notice>
      );
    case "unsent":
      return <Unsent session={session} onPlace={onPlace} />;
    case "new key":
      return (
        <Notice tone="bad" title="The daemon has another key.">
          <p>{trial.message}</p>
          <button
            type="button"
            class="danger"
            onClick={() =>
              void import("../form/sealing.ts").then((sealing) => sealing.acceptKey(trial.key)).then(onRetry)
            }
          >
            Accept the new key
          </button>
        </Notice>
      );
    case "refused":
      return <Refused error={trial.error} onPlace={onPlace} onRetry={onRetry} />;
    case "ready":
      return null;
  }
}

function Unsent({ session, onPlace }: { session: Session; onPlace: (pointer: string) => void }) {
  const broken = session.text.value?.broken;
  const problems = unsent(session.edits.value);
  return (
    <Notice tone="bad" title="This cannot be sent yet.">
      {broken !== undefined && <p>The text of the raw editor is no configuration: {broken}</p>}
      {problems.length > 0 && <Problems problems={problems} onPlace={onPlace} />}
    </Notice>
  );
}

interface BreakingProps {
  error: RequestError;
  allowed: boolean;
  onAllow: (allowed: boolean) => void;
}

function Breaking({ error, allowed, onAllow }: BreakingProps) {
  return (
    <Notice tone="warning" title={error.message.replace(/\. Send allow_breaking.*$/, ".")}>
      <Problems problems={error.problems} />
      <label class="check">
        <input type="checkbox" checked={allowed} onChange={(event) => onAllow(event.currentTarget.checked)} />
        Do it nevertheless: programs that rely on these members may fail
      </label>
    </Notice>
  );
}

function Refused({
  error,
  onPlace,
  onRetry,
}: {
  error: RequestError;
  onPlace: (pointer: string) => void;
  onRetry: () => void;
}) {
  const advice = ADVICE[error.code];
  return (
    <>
      <ErrorSummary error={error} onPlace={onPlace} />
      {advice && <p>{advice}</p>}
      {error.code === "unauthorized" && <AskToken />}
      {TRY_AGAIN.has(error.code) && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </>
  );
}

const TRY_AGAIN: ReadonlySet<string> = new Set([
  "busy",
  "unavailable",
  "internal",
  "unreachable",
  "conflict",
  "forbidden",
  "not_found",
]);
const ADVICE: Record<string, string> = {
  invalid_request:
    "The daemon does not understand the request. A page that is older than the daemon may be the reason: load it again; the draft is kept.",
  unauthorized: "Your edits are kept.",
  forbidden: "Your edits are kept. Another token may be allowed to do this.",
  not_found: "Your edits are kept. The service or the environment may have been removed meanwhile.",
  conflict: "The newer revision is read; your edits are kept.",
  too_large: "Shorten a value, or put less into this service.",
  validation_failed: "Choose a place to correct it.",
  busy: "Your edits are kept. The daemon has too much to do at present.",
  unavailable: "Your edits are kept. The daemon cannot use its store or its files at present.",
  internal: "Your edits are kept. The daemon's log has the details.",
  unreachable: "Nothing was sent that changes anything. Your edits are kept.",
};

/** Whether the dialog that asks for a token is open: it has a form, so it cannot stand inside that of the review. */
const asking = signal(false);

function AskToken() {
  return (
    <button
      type="button"
      onClick={() => {
        asking.value = true;
      }}
    >
      Enter a token
    </button>
  );
}

function Asking() {
  if (!asking.value || unauthorized.value === undefined) return null;
  return (
    <TokenDialog
      onClose={() => {
        asking.value = false;
      }}
    />
  );
}

/** Why the write itself was not carried out, or may have been. */
function Failed({ failure, onPlace }: { failure: Failure; onPlace: (pointer: string) => void }) {
  const { kind, error } = failure;
  if (kind === "conflict") {
    return (
      <Notice tone="warning" title="Somebody else changed it first. Nothing of yours was applied.">
        <p>This is what your edits would change of the newer revision.</p>
      </Notice>
    );
  }
  if (kind === "unknown") {
    return (
      <Notice tone="warning" title="It is not known whether the change was applied.">
        <p>{error.message}</p>
        <p>“Ask again” sends the same request, which is carried out once.</p>
      </Notice>
    );
  }
  return (
    <>
      <ErrorSummary error={error} onPlace={onPlace} />
      <p>{ADVICE[error.code]}</p>
      {error.code === "unauthorized" && <AskToken />}
    </>
  );
}

const HIDDEN = /shadowed by overlay/;

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
  // That a change made at run time lies above the files is no surprise where one is made.
  const hidden = answer.warnings.filter((warning) => HIDDEN.test(warning));
  const warnings = answer.warnings.filter((warning) => !HIDDEN.test(warning));
  return (
    <>
      {isProtected && (
        <Notice tone="warning" title={`${session.environment} is protected.`}>
          <p>
            {trial.write.revision === 0
              ? "The change is applied only if there is no configuration still."
              : `The change is applied only while revision ${trial.write.revision}, which you see here, is the newest one.`}
          </p>
        </Notice>
      )}
      {warnings.length > 0 && (
        <Notice tone="warning" title="Warnings">
          <ul>
            {warnings.map((warning) => (
              <li key={warning}>{visible(warning)}</li>
            ))}
          </ul>
        </Notice>
      )}
      <p>
        {answer.message}. {summary(changes.length)}
        {restart.length > 0 &&
          ` ${restart.length === 1 ? "One takes" : `${restart.length} take`} effect after a restart of ${session.service}.`}
      </p>
      <Differences changes={changes} restart={restart} old="in force" new="new" />
      {hidden.length > 0 && (
        <details>
          <summary>
            {hidden.length === 1 ? "A value of a file is" : `${hidden.length} values of files are`} hidden by the
            change, until it is taken back
          </summary>
          <ul>
            {hidden.map((warning) => (
              <li key={warning}>{visible(warning)}</li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

function Whole({ session, answer, open }: { session: Session; answer: WriteAnswer; open: boolean }) {
  const [shown, setShown] = useState(open);
  return (
    <details open={open} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>The whole configuration, side by side</summary>
      {shown && (
        <Lazy
          load={() => import("./merge_view.tsx").then((module) => module.WholeDocuments)}
          props={{
            before: session.base.value.config,
            after: answer.config as JsonObject,
            format: session.text.peek()?.format ?? "json",
          }}
        />
      )}
    </details>
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

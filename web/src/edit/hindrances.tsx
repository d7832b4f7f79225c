/** What hinders a write: what the daemon refused, what it asks first, and what is not known. */

import type { RequestError } from "../api/client.ts";
import { unsent } from "../form/edits.ts";
import { ErrorSummary, Notice, Problems } from "../ui/elements.tsx";
import { askToken } from "../ui/token_dialog.tsx";
import { adviceAbout } from "./refusal_advice.ts";
import type { Reviewed } from "./reviewed.ts";
import type { Failure, Session } from "./session.ts";
import type { Trial } from "./trial.ts";
import type { WriteAnswer } from "./write.ts";

interface HindranceProps {
  trial: Trial;
  session: Session;
  of: Reviewed;
  onPlace: (pointer: string) => void;
  onRetry: () => void;
}

/** What hinders the write, if anything does. */
export function Hindrance({ trial, session, of, onPlace, onRetry }: HindranceProps) {
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
  /** What the dry run says of the change. */
  answer: WriteAnswer;
  allowed: boolean;
  onAllow: (allowed: boolean) => void;
}

/** Asks whether a change that programs may not bear is wanted nevertheless. */
export function Breaking({ error, answer, allowed, onAllow }: BreakingProps) {
  return (
    <Notice
      tone="warning"
      title={`The change breaks readers of ${answer.service}: it becomes version ${answer.version}.`}
    >
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
  const advice = adviceAbout(error);
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

function AskToken() {
  return (
    <button type="button" onClick={askToken}>
      Enter a token
    </button>
  );
}

/** Why the write itself was not carried out, or may have been. */
export function Failed({ failure, onPlace }: { failure: Failure; onPlace: (pointer: string) => void }) {
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
      <p>{adviceAbout(error)}</p>
      {error.code === "unauthorized" && <AskToken />}
    </>
  );
}

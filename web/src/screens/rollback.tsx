/** The way back to an old revision: what it changes, by a dry run of the daemon, before anything is sent. */

import { useState } from "preact/hooks";
import type { Answers, RequestError } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";
import { randomId } from "../edit/random.ts";
import { asking, carryOut, send, type Write } from "../edit/write.ts";
import { writeChanges } from "../edit/write_changes.ts";
import { HiddenValues, WriteWarnings } from "../edit/write_warnings.tsx";
import { href, route } from "../router.ts";
import { invalidate, useResource, useVisit } from "../store/resources.ts";
import { useTyped } from "../store/typed.ts";
import { publishedLater } from "../ui/broker_away.tsx";
import { Differences } from "../ui/differences.tsx";
import { Await, CommentField, ErrorSummary, Notice, Time, usePartHeading } from "../ui/elements.tsx";
import { counted } from "../ui/words.ts";
import { comparedChanges } from "./changes.ts";
import { type Basis, compare, document, type Revision } from "./history_queries.ts";

interface Props {
  service: string;
  env: string;
  /** The revision whose values come back. */
  to: number;
  /** The newest revision, which follows the events. */
  newest: Revision | undefined;
  /** The old revision, if it is among those that are listed. */
  target: Revision | undefined;
  onDone: (message: string, revision: number) => void;
}

export function Rollback({ service, env, to, newest, target, onDone }: Props) {
  const heading = usePartHeading();
  // What was looked at stays what the rollback is based on, also when somebody changes something meanwhile.
  const [basis, setBasis] = useState<Basis | undefined>(newest);
  const overview = href(route.value.path, { ...route.value.query, back: undefined });
  return (
    <section aria-labelledby="rollback" class="review">
      <p>
        <a href={overview}>All revisions</a>
      </p>
      <h2 id="rollback" tabIndex={-1} ref={heading}>
        Back to the values of revision {to}
      </h2>
      {target !== undefined && (
        <p class="muted">
          Made by {target.author} <Time seconds={target.timestamp} />
          {target.comment && <>: {target.comment}</>}
        </p>
      )}
      {basis === undefined ? (
        <Notice tone="warning" title={`${service} has no revision in ${env}.`} />
      ) : (
        <Review
          key={basis.revision}
          {...{ service, env, to, basis, newest, onDone, overview }}
          onNewBasis={() => setBasis(newest)}
        />
      )}
    </section>
  );
}

interface ReviewProps extends Omit<Props, "target"> {
  basis: Basis;
  overview: string;
  onNewBasis: () => void;
}

function Review(props: ReviewProps) {
  const { service, env, to, basis, newest } = props;
  const visit = useVisit();
  // Until its outcome is known, a newer revision may be its own.
  const [sent, setSent] = useState<Write>();
  const outcome = useResource(
    `rollback ${env} ${service} ${to} ${basis.revision} ${visit}`,
    async (signal) => {
      const [before, answer] = await Promise.all([
        basis.deleted ? undefined : document(service, env, basis.revision, signal),
        send(rollback(service, env, to, basis, ""), { dryRun: true, signal }),
      ]);
      return { before: before?.config as JsonObject | undefined, answer };
    },
    [],
  );
  const overtaken = sent === undefined && newest !== undefined && newest.revision !== basis.revision;
  if (overtaken || isConflict(outcome.error)) {
    return <Conflict {...props} />;
  }
  return (
    <Await of={outcome}>
      {({ before, answer }) => <Outcome {...props} before={before} answer={answer} sent={sent} setSent={setSent} />}
    </Await>
  );
}

function isConflict(error: RequestError | undefined): boolean {
  return error !== undefined && (error.code === "conflict" || error.status === 412);
}

/** Return the write that makes a revision with the content of an old one. */
function rollback(service: string, environment: string, to: number, basis: Basis, comment: string): Write {
  return {
    service,
    environment,
    // A configuration that was deleted has no entity tag: then the condition is that it does not exist.
    revision: basis.deleted ? 0 : basis.revision,
    change: { kind: "rollback", revision: to },
    comment,
    allowBreaking: false,
    requestId: randomId(),
  };
}

interface OutcomeProps extends ReviewProps {
  before: JsonObject | undefined;
  answer: Answers["WriteAnswer"];
  /** What was sent, while it is not known what became of it. */
  sent: Write | undefined;
  setSent: (write: Write | undefined) => void;
}

function Outcome(props: OutcomeProps) {
  const { service, env, to, basis, before, answer, onDone, overview, sent, setSent } = props;
  const [comment, setComment] = useTyped(`rollback/${env}/${service}/comment`);
  const [error, setError] = useState<RequestError>();
  const [sending, setSending] = useState<string>();
  const { revision, restart_required: restart } = answer;
  if (answer.unchanged) {
    return (
      <Notice title={`The values of revision ${to} are those that ${service} has now.`}>
        <p>
          There is nothing to do. <a href={overview}>All revisions</a>
        </p>
      </Notice>
    );
  }
  if (isConflict(error)) return <Conflict {...props} />;
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    const write = sent ?? rollback(service, env, to, basis, comment.trim());
    setSent(write);
    setSending("Applying …");
    setError(undefined);
    const outcome = await carryOut(write, { ...answer, secrets: false }, asking(setSending), sent !== undefined);
    if (outcome.kind === "done") {
      setComment("");
      // Without an answer, the history has the revision; what the dry run said is true of it.
      const { revision: made, answer: final = answer } = outcome;
      invalidate("change", `change:${service}`);
      const restarts = final.restart_required.length > 0 ? " It has to restart to apply all of it." : "";
      onDone(
        `${service} is at revision ${made}, with the values of revision ${to}.${restarts}${publishedLater(final)}`,
        made,
      );
      return;
    }
    setSending(undefined);
    setError(outcome.error);
    if (outcome.kind !== "unknown") setSent(undefined);
    if (outcome.kind === "conflict") invalidate(`change:${service}`);
  }
  return (
    <form onSubmit={submit}>
      {error !== undefined && <ErrorSummary error={error} />}
      {error !== undefined && sent !== undefined && (
        <p>
          It is not known whether this was carried out. “Ask again” sends the same request, which is carried out once.
        </p>
      )}
      <p>
        {basis.deleted
          ? `${service} has no configuration now; it gets this one as revision ${revision}.`
          : `${counted(answer.changed.length, "place changes", "places change")} compared with revision ${basis.revision}, which is in force. The result is revision ${revision}.`}{" "}
        {restart.length > 0 &&
          `${service} has to restart to apply ${restart.length === answer.changed.length ? "it" : "all of it"}.`}
      </p>
      <WriteWarnings answer={answer} />
      <Differences
        changes={writeChanges(before, answer)}
        restart={restart}
        old={`revision ${basis.revision}, now`}
        new={`revision ${revision}`}
      />
      <HiddenValues answer={answer} />
      {sent === undefined && <CommentField value={comment} onValue={setComment} />}
      {sending !== undefined && (
        <p class="loading" role="status">
          {sending}
        </p>
      )}
      <div class="buttons">
        <button type="submit" class="primary" disabled={sending !== undefined}>
          {sent !== undefined && sending === undefined
            ? "Ask again"
            : `Back to the values of revision ${to}, as revision ${revision}`}
        </button>
        <a class="button" href={overview}>
          Cancel
        </a>
      </div>
    </form>
  );
}

interface ConflictProps {
  service: string;
  env: string;
  basis: Basis;
  newest: Revision | undefined;
  onNewBasis: () => void;
}

/** Somebody was faster: what they changed, and the way on. */
function Conflict({ service, env, basis, newest, onNewBasis }: ConflictProps) {
  const known = newest !== undefined && newest.revision !== basis.revision ? newest : undefined;
  return (
    <>
      <Notice tone="warning" title={`${service} was changed while you looked at this. Nothing was sent.`}>
        {known !== undefined && (
          <p>
            {known.author} made revision {known.revision} <Time seconds={known.timestamp} />
            {known.comment && <>: {known.comment}</>}
            {known.deleted && ". It deletes the configuration"}.
          </p>
        )}
      </Notice>
      {known !== undefined && !known.deleted && !basis.deleted && (
        <Meanwhile service={service} env={env} old={basis.revision} next={known.revision} />
      )}
      <div class="buttons">
        <button type="button" class="primary" disabled={known === undefined} onClick={onNewBasis}>
          Look at it again, based on revision {known?.revision ?? "…"}
        </button>
      </div>
    </>
  );
}

function Meanwhile({ service, env, old, next }: { service: string; env: string; old: number; next: number }) {
  const sides = { env1: env, env2: env, rev1: old, rev2: next };
  const found = useResource(
    `compare ${service} ${JSON.stringify(sides)}`,
    (signal) => compare(service, sides, signal),
    [],
  );
  return (
    <Await of={found}>
      {(answer) => (
        <>
          <h3>What changed since revision {old}</h3>
          <Differences changes={comparedChanges(answer)} old={`revision ${old}`} new={`revision ${next}`} />
        </>
      )}
    </Await>
  );
}

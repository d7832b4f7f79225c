/** One environment: its files, services and problems, and its activation with a dry run before it. */

import { useEffect, useState } from "preact/hooks";
import { type Answers, failure, type RequestError, request } from "../api/client.ts";
import type { Environments, RefusedEdit } from "../api/queries.ts";
import { randomId } from "../edit/random.ts";
import { enter, href, leave, route } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { invalidate, onEvent, useResource, useVisit } from "../store/resources.ts";
import { useTyped } from "../store/typed.ts";
import { isAdmin, useWhoami } from "../store/whoami.ts";
import { publishedLater } from "../ui/broker_away.tsx";
import { useDeferred } from "../ui/deferred.ts";
import { Disclosure } from "../ui/disclosure.tsx";
import { Done } from "../ui/done.tsx";
import { Await, CommentField, Dialog, ErrorSummary, Field, Heading, Notice, usePartHeading } from "../ui/elements.tsx";
import { ListTable } from "../ui/list_table.tsx";
import { PlaceName } from "../ui/place_name.tsx";
import { asksToken } from "../ui/token_dialog.tsx";
import { VERBATIM } from "../ui/verbatim.ts";
import { counted } from "../ui/words.ts";
import { activationTitle, reconfigured } from "./changes.ts";
import { type Environment, EnvironmentTags, NamesOnly, seesNamesOnly, useEnvironments } from "./environments.tsx";
import { HomeChanges } from "./home_changes.tsx";
import { ProblemList, Remedies } from "./problem_list.tsx";
import { RefusedEdits } from "./refused_edits.tsx";

type Activation = Answers["ActivateAnswer"];

export function EnvironmentScreen({ name, route: { query } }: ScreenProps) {
  const known = useEnvironments();
  const who = useWhoami();
  const admin = isAdmin(who);
  const [done, setDone] = useState<string>();
  return (
    <>
      <Heading title={`Environment ${name}`} />
      {done !== undefined && <Done message={done} onClose={() => setDone(undefined)} />}
      <Await of={known}>
        {(data) => {
          if (seesNamesOnly(who)) return <NamesOnly />;
          const item = data.environments.find((one) => one.name === name);
          if (item === undefined) return <p>No file defines this environment.</p>;
          if (query.activate === "1" && name !== data.active) {
            return (
              <>
                <RefusedEdits edits={data.refused_edits ?? []} />
                <Activate
                  item={item}
                  active={data.active}
                  guard={guard(item, data)}
                  onDone={(message) => {
                    setDone(message);
                    // Who went elsewhere meanwhile may have opened the same of another environment.
                    if (route.peek().path[1] === name) leave("activate", "confirm");
                  }}
                />
              </>
            );
          }
          return (
            <>
              <RefusedEdits edits={data.refused_edits ?? []} />
              <Overview item={item} active={data.active} edits={data.refused_edits ?? []} admin={admin} />
            </>
          );
        }}
      </Await>
    </>
  );
}

interface OverviewProps {
  item: Environment;
  active: string;
  edits: readonly RefusedEdit[];
  admin: boolean;
}

function Overview({ item, active, edits, admin }: OverviewProps) {
  const { name } = item;
  return (
    <>
      <p>
        <EnvironmentTags item={item} active={active} />
      </p>
      <p>
        {name === active ? "Services get their configuration of this environment." : `${active} is active.`}
        {item.protected && ` ${name} is protected: a write has to name the revision that it is based on.`}
      </p>
      <div class="buttons">
        <a class="button" href={href(["services"], { env: name })}>
          {counted(item.services.length, "service")}
        </a>
        {name !== active && (
          <a class="button" href={href(["compare"], { env1: active, env2: name })}>
            Compare with {active}
          </a>
        )}
        {name !== active && admin && (
          <button type="button" class="primary" onClick={() => enter({ activate: "1" })}>
            Activate …
          </button>
        )}
      </div>
      <h2>Files</h2>
      {item.files.length === 0 ? (
        <p>None are in force since the daemon started.</p>
      ) : (
        <ul class="pointers">
          {item.files.map((file) => (
            <li key={file}>
              <PlaceName of={file} />
            </li>
          ))}
        </ul>
      )}
      <Problems item={item} active={active} edits={edits} />
      <Lacking item={item} active={active} />
      {(item.hidden?.length ?? 0) > 0 && (
        <>
          <h2>Hidden values</h2>
          <p>These values of the files are not valid. It does no harm as long as run-time changes lie above them.</p>
          <ProblemList problems={item.hidden ?? []} />
        </>
      )}
    </>
  );
}

function Problems({ item, active, edits }: Omit<OverviewProps, "admin">) {
  if (item.problems.length === 0) return null;
  // With refused edits alone, what the files said before can be activated, unless the daemon started with them.
  const areEdits = item.problems.every(({ file, line }) =>
    edits.some((edit) => edit.file === file && edit.line === (line ?? null)),
  );
  return (
    <>
      <h2>Problems</h2>
      <p>
        {item.name === active || (areEdits && item.files.length > 0)
          ? "The files are refused; what was in force before goes on."
          : "It cannot be activated until they are corrected."}
      </p>
      <ProblemList problems={item.problems} />
      <Remedies commands={item.remedies ?? []} />
    </>
  );
}

function Lacking({ item, active }: { item: Environment; active: string }) {
  const lacking = Object.entries(item.lacking_secrets ?? {});
  const shown = useDeferred(lacking.length);
  if (lacking.length === 0) return null;
  return (
    <>
      <h2>Lacking secrets</h2>
      <p>
        These secrets are in {active}, and not in {item.name}:
      </p>
      <ListTable caption={`The secrets that ${item.name} lacks`} columns={["Service", "Secrets"]}>
        {lacking.slice(0, shown).map(([service, pointers]) => (
          <tr key={service}>
            <th scope="row">
              <a href={href(["services", service], { env: item.name })}>{service}</a>
            </th>
            <td data-label="Secrets">
              {pointers.map((pointer) => (
                <PlaceName key={pointer} block of={pointer} />
              ))}
            </td>
          </tr>
        ))}
      </ListTable>
    </>
  );
}

function activate(
  name: string,
  body: { dry_run: boolean; comment?: string; request_id?: string },
  signal?: AbortSignal,
): Promise<Activation> {
  return request("POST", `/environments/${encodeURIComponent(name)}/activate`, {
    body,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** What an activation changes, without what differs from answer to answer. */
function essence({
  changed,
  restart_required,
  changes,
  changes_left_out,
  added,
  removed,
  lacking_secrets,
}: Activation) {
  return JSON.stringify([changed, restart_required, changes, changes_left_out, added, removed, lacking_secrets]);
}

function guard({ name, protected: isProtected }: Environment, { active, environments }: Environments) {
  if (isProtected) return `${name} is protected. Type its name to go on`;
  const leaves = environments.some((each) => each.name === active && each.protected);
  return leaves ? `${active} is protected. Type ${name} to make that active instead` : undefined;
}

interface ActivateProps {
  item: Environment;
  active: string;
  onDone: (message: string) => void;
  /** What is asked before it is sent: for the name, if one of the two environments is protected. */
  guard: string | undefined;
}

/** The dry run of an activation, and its confirmation. */
function Activate({ item, active, guard, onDone }: ActivateProps) {
  const { name } = item;
  const heading = usePartHeading();
  // What an earlier visit saw may be out of date.
  const visit = useVisit();
  const plan = useResource(
    `activate ${active} ${name} ${visit}`,
    (signal) => activate(name, { dry_run: true }, signal),
    ["environment", "files"],
  );
  const [isStale, setStale] = useStale([active, name]);
  const again = async () => {
    await plan.refresh();
    setStale(false);
  };
  const back = href(["environments", name]);
  return (
    <section aria-labelledby="activation">
      <p>
        <a href={back}>Back to the environment {name}</a>
      </p>
      <h2 id="activation" tabIndex={-1} ref={heading}>
        Activate {name} instead of {active}
      </h2>
      {isStale && (
        <Notice tone="warning" title="Services were changed since you look at this.">
          <div class="buttons">
            <button type="button" onClick={() => void again()}>
              Look again
            </button>
          </div>
        </Notice>
      )}
      {plan.data === undefined && plan.error !== undefined ? (
        <Impossible error={plan.error} item={item} active={active} />
      ) : (
        <Await of={plan}>{(answer) => <Plan {...{ answer, item, active, guard, refresh: again, onDone }} />}</Await>
      )}
    </section>
  );
}

/**
 * Use whether services of these environments were changed since the dry run that is shown. The dry run is not repeated
 * automatically, because it is expensive in a large home.
 */
function useStale(names: readonly string[]): [boolean, (stale: boolean) => void] {
  const [isStale, setStale] = useState(false);
  useEffect(
    () =>
      onEvent(({ kind, data }) => {
        const { environment = "" } = data as { environment?: string };
        const isMissed = kind === "reset" || kind === "reconnected";
        if (isMissed || (kind === "change" && names.includes(environment))) setStale(true);
      }),
    [names.join("/")],
  );
  return [isStale, setStale];
}

/** Why it cannot be activated, by place; and what would change apart from that. */
function Impossible({ error, item, active }: { error: RequestError; item: Environment; active: string }) {
  const answer = error.body as Partial<Activation>;
  const hasChanges = Object.keys(answer.changes ?? {}).length > 0;
  return (
    <>
      <Notice tone="bad" title={error.message}>
        <ProblemList problems={error.problems} />
      </Notice>
      <Remedies commands={item.remedies ?? []} />
      {hasChanges && (
        <Disclosure name="-apart" summary="What would change apart from that">
          <HomeChanges answer={answer} env={item.name} compare={comparison(active, item.name)} />
        </Disclosure>
      )}
    </>
  );
}

function comparison(env1: string, env2: string): (service: string) => string {
  return (service) => href(["compare"], { service, env1, env2 });
}

interface PlanProps extends ActivateProps {
  answer: Activation;
  refresh: () => Promise<void>;
}

function Plan({ answer, item, active, guard, refresh, onDone }: PlanProps) {
  const asking = route.value.query.confirm !== undefined && !asksToken.value;
  const title = activationTitle(answer);
  return (
    <>
      <div class="buttons">
        <button type="button" class="primary" onClick={() => enter({ confirm: "1" })}>
          {title} …
        </button>
        <a class="button" href={href(["environments", item.name])}>
          Cancel
        </a>
      </div>
      <HomeChanges answer={answer} env={item.name} compare={comparison(active, item.name)} />
      {answer.changed.length === 0 && (answer.added ?? []).length + (answer.removed ?? []).length === 0 && (
        <p>No configuration changes.</p>
      )}
      {asking && <Confirmation {...{ answer, item, guard, refresh, onDone, title }} onClose={() => leave("confirm")} />}
    </>
  );
}

interface ConfirmationProps extends Omit<PlanProps, "active"> {
  title: string;
  onClose: () => void;
}

/** The last question; where there is a `guard`, the name has to be typed. */
function Confirmation({ answer, item, guard, title, refresh, onDone, onClose }: ConfirmationProps) {
  const { name } = item;
  const [comment, setComment] = useTyped(`activate/${name}/comment`);
  const [typed, setTyped] = useState("");
  const [error, setError] = useState<RequestError>();
  const [changed, setChanged] = useState(false);
  const [sending, setSending] = useState(false);
  // The same for all attempts, so that it is carried out once.
  const [requestId] = useState(randomId);
  async function submit(event: SubmitEvent) {
    event.preventDefault();
    setSending(true);
    setError(undefined);
    setChanged(false);
    try {
      // What was looked at may be out of date: an activation takes no revision that it is based on.
      const present = await activate(name, { dry_run: true });
      if (present.previous === name) {
        // An earlier attempt was carried out though its answer was lost, or another administrator was faster.
        setComment("");
        onDone(`${name} is active.`);
        return;
      }
      if (essence(present) !== essence(answer)) {
        setChanged(true);
        await refresh();
        setSending(false);
        return;
      }
      const text = comment.trim();
      const made = await activate(name, {
        dry_run: false,
        request_id: requestId,
        ...(text ? { comment: text } : {}),
      });
      setComment("");
      invalidate("environment", "change");
      const restarts = made.restart_required.length;
      onDone(
        `${name} is active; ${counted(reconfigured(made).length, "service has", "services have")} another configuration.${
          restarts > 0 ? ` ${counted(restarts, "service has", "services have")} to restart to apply all of it.` : ""
        }${publishedLater(made)}`,
      );
    } catch (reason) {
      setSending(false);
      setError(failure(reason));
    }
  }
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={submit}>
        {error !== undefined && <ErrorSummary error={error} />}
        {changed && (
          <Notice tone="warning" title="What it changes is not what you looked at any more. Nothing was sent.">
            <p>The list behind this is up to date now.</p>
          </Notice>
        )}
        <p>
          {name} becomes the active environment: {counted(reconfigured(answer).length, "service gets", "services get")}{" "}
          another configuration at once.
        </p>
        {Object.keys(answer.lacking_secrets ?? {}).length > 0 && (
          <p>
            {counted(Object.keys(answer.lacking_secrets ?? {}).length, "service lacks", "services lack")} secrets
            afterwards.
          </p>
        )}
        <CommentField value={comment} onValue={setComment} />
        {guard !== undefined && (
          <Field label={guard}>
            {({ id }) => (
              <input
                id={id}
                autoComplete="off"
                {...VERBATIM}
                value={typed}
                onInput={(event) => setTyped(event.currentTarget.value)}
              />
            )}
          </Field>
        )}
        <div class="buttons">
          <button type="submit" class="primary" disabled={sending || (guard !== undefined && typed !== name)}>
            {title}
          </button>
          <button type="button" onClick={onClose}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}

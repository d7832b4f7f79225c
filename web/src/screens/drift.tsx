/** Drift and alerts: what is not as it should be, since when, and what to do. */

import type { Problem } from "../api/client.ts";
import { type Alert, alerts, drift, type Finding, health } from "../api/queries.ts";
import { changeQuery, href } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { AdminOnly } from "../ui/admin_only.tsx";
import { useDeferred } from "../ui/deferred.ts";
import { Disclosure } from "../ui/disclosure.tsx";
import { Announcement, Await, Chip, Heading, Notice, Problems, Tag, Time } from "../ui/elements.tsx";
import { Prose } from "../ui/prose.tsx";
import { counted } from "../ui/words.ts";
import { type Advice, alertAdvice } from "./advice.ts";
import { DRIFT } from "./advice_texts.ts";

const KINDS: Record<string, string> = {
  retained: "retained messages",
  file: "files",
  row: "rows of the database",
  instance: "instances",
};

export function DriftScreen({ route }: ScreenProps) {
  return (
    <>
      <Heading title="Drift and alerts" />
      <h2>Current alerts</h2>
      <AdminOnly otherwise={<PublicAlerts />}>
        <AllAlerts />
      </AdminOnly>
      <h2>What differs from the store</h2>
      <AdminOnly otherwise={<Count />}>
        <Drift kind={route.query.kind} />
      </AdminOnly>
    </>
  );
}

function useHealth() {
  return useResource("health", health, ["health", "environment"]);
}

/** What everybody may know: no details, and not since when. */
function PublicAlerts() {
  return (
    <Await of={useHealth()}>
      {(data) => <Alerts alerts={Object.entries(data.alerts).map(([name, message]) => ({ name, message }))} />}
    </Await>
  );
}

function AllAlerts() {
  const found = useResource("alerts", alerts, ["health"]);
  return <Await of={found}>{(data) => <Alerts alerts={data.alerts} />}</Await>;
}

function Count() {
  const { data } = useHealth();
  return (
    <Notice title="Only administrators see the findings.">
      {" "}
      {data !== undefined && `The daemon counts ${data.drift} at the moment.`}
    </Notice>
  );
}

function Drift({ kind }: { kind: string | undefined }) {
  const found = useResource("drift", drift, ["drift", "health"]);
  return (
    <Await of={found}>
      {({ drift, found }) => (
        <>
          <Findings findings={drift} kind={kind} />
          <h2>Found since the daemon started</h2>
          <dl class="readings panel">
            {Object.entries(found).map(([kind, count]) => (
              <div key={kind}>
                <dt>In {KINDS[kind] ?? kind}</dt>
                <dd>{count === 0 ? "nothing" : count}</dd>
              </div>
            ))}
          </dl>
        </>
      )}
    </Await>
  );
}

function Alerts({ alerts }: { alerts: (Pick<Alert, "name" | "message"> & Partial<Alert>)[] }) {
  return (
    <>
      <Announcement>{counted(alerts.length, "alert")}</Announcement>
      {alerts.length === 0 && <p class="empty">No alerts.</p>}
      {alerts.map(({ name, message, since, service, problems = [] }) => (
        <article class="panel" key={name}>
          <h3>
            <Tag tone="warning">alert</Tag> <code>{name}</code>
          </h3>
          <p>
            <Prose text={message} />
          </p>
          {/* A message that has room for it says what the problem is. */}
          <AlertProblems name={name} problems={problems.filter((problem) => !message.includes(problem.message))} />
          <AdviceText advice={alertAdvice(name)} />
          {since !== undefined && (
            <p class="muted">
              Since <Time seconds={since} />
              {service && (
                <>
                  {" · "}
                  <a href={href(["services", service])}>{service}</a>
                </>
              )}
            </p>
          )}
        </article>
      ))}
    </>
  );
}

/** So many problems are shown at once; more of them would hide the next alert. */
const FEW_PROBLEMS = 3;

function AlertProblems({ name, problems }: { name: string; problems: Problem[] }) {
  if (problems.length <= FEW_PROBLEMS) return <Problems problems={problems} />;
  return (
    <Disclosure name={`alert-${name}`} summary={`${problems.length} problems`}>
      <Problems problems={problems} />
    </Disclosure>
  );
}

function Findings({ findings, kind }: { findings: Finding[]; kind: string | undefined }) {
  const kinds = [...new Set(findings.map((finding) => finding.kind as string))];
  const wanted = kinds.filter((name) => kind === undefined || name === kind);
  return (
    <>
      <Announcement>{counted(findings.length, "finding")}</Announcement>
      {(kinds.length > 1 || kind !== undefined) && (
        <fieldset class="chips">
          <legend class="visually-hidden">Show only</legend>
          {[...new Set([...kinds, ...(kind === undefined ? [] : [kind])])].map((name) => (
            <Chip
              key={name}
              pressed={name === kind}
              count={findings.filter((finding) => finding.kind === name).length}
              onClick={() => changeQuery({ kind: name === kind ? undefined : name })}
            >
              In {KINDS[name] ?? name}
            </Chip>
          ))}
        </fieldset>
      )}
      {wanted.length === 0 && <p class="empty">Everything is as the store says.</p>}
      {wanted.map((name) => (
        <OfKind key={name} kind={name} findings={findings.filter((finding) => finding.kind === name)} />
      ))}
    </>
  );
}

function OfKind({ kind, findings }: { kind: string; findings: Finding[] }) {
  const shown = useDeferred(findings.length);
  return (
    <section class="panel" aria-label={`Drift in ${KINDS[kind] ?? kind}`}>
      <h3>
        <Tag tone="warning">drift</Tag> In {KINDS[kind] ?? kind}
      </h3>
      <AdviceText advice={DRIFT[kind]} />
      <ul class="found">
        {findings.slice(0, shown).map(({ subject, message, since, service }) => (
          <li key={subject}>
            <p>
              <code>{subject}</code>{" "}
              <span class="muted">
                since <Time seconds={since} />
              </span>
            </p>
            <p>{message}</p>
            {service && (
              <p>
                <a href={href(["services", service], kind === "instance" ? { tab: "instances" } : {})}>{service}</a>
              </p>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

function AdviceText({ advice }: { advice: Advice | undefined }) {
  if (advice === undefined) return null;
  return (
    <div class="advice">
      <p class="muted">
        It means: <Prose text={advice.meaning} />.
      </p>
      <p>
        <strong>What to do:</strong> <Prose text={advice.remedy} />.
      </p>
    </div>
  );
}

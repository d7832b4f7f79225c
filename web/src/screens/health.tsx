/** The health of the daemon, in words. */

import type { ComponentChildren } from "preact";
import { type Health, health, type Replicas, ready, replicas } from "../api/queries.ts";
import { href } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { Await, Heading, Notice, Tag, Time, type Tone } from "../ui/elements.tsx";
import { ListTable } from "../ui/list_table.tsx";
import { Prose } from "../ui/prose.tsx";
import { counted } from "../ui/words.ts";

export function HealthScreen(_: ScreenProps) {
  const state = useResource("health", health, ["health", "environment"]);
  const readiness = useResource("ready", ready, ["health"]);
  const others = useResource("replicas", replicas, ["health"]);
  return (
    <>
      <Heading title="Health">
        <button
          type="button"
          onClick={() => {
            for (const { refresh } of [state, readiness, others]) void refresh();
          }}
        >
          Look again
        </button>
      </Heading>
      <Await of={state}>
        {(data) => (
          <>
            <Summary health={data} />
            <div class="cards">
              <Daemon health={data} />
              <Configurations health={data} />
              <Bus health={data} />
              <Requests health={data} />
            </div>
          </>
        )}
      </Await>
      <h2>Ready for requests</h2>
      <Await of={readiness}>
        {({ ready, reason }) => (
          <p>
            {ready ? <Tag tone="good">ready</Tag> : <Tag tone="bad">not ready</Tag>}{" "}
            {ready ? "A load balancer may send requests here." : reason}
          </p>
        )}
      </Await>
      <h2>Daemons of this home</h2>
      {others.error?.code === "forbidden" ? (
        <p class="muted">You may not list them.</p>
      ) : (
        <Await of={others}>{(data) => <Daemons data={data} />}</Await>
      )}
    </>
  );
}

const SUMMARIES: Record<Health["status"], { tone: Tone; title: string }> = {
  healthy: { tone: "good", title: "The daemon is healthy." },
  degraded: { tone: "warning", title: "The daemon works, but something needs a look." },
  unhealthy: { tone: "bad", title: "The daemon does not work as it should." },
};

/** What an alert is about is not always the daemon itself. */
const ALERTED = { tone: "info", title: "The daemon is healthy. Something around it needs a look." } as const;

function Summary({ health }: { health: Health }) {
  const alerts = Object.entries(health.alerts);
  const { tone, title } = health.status === "healthy" && alerts.length > 0 ? ALERTED : SUMMARIES[health.status];
  return (
    <Notice lasting tone={tone} title={title}>
      {!health.mqtt_connected && <p>It is not connected to the broker; it tries again by itself.</p>}
      {alerts.length > 0 && (
        <ul class="problems">
          {alerts.map(([name, message]) => (
            <li key={name}>
              <code>{name}</code> <Prose text={message} />
            </li>
          ))}
        </ul>
      )}
      {alerts.length + health.drift > 0 && (
        <p>
          <a href={href(["drift"])}>Drift and alerts: what to do</a>
        </p>
      )}
    </Notice>
  );
}

function Card({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section class="panel card">
      <h2>{title}</h2>
      <dl class="readings">{children}</dl>
    </section>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Return a length of time in words, in its two largest units. */
function duration(seconds: number): string {
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "day"],
    [Math.floor(seconds / 3_600) % 24, "hour"],
    [Math.floor(seconds / 60) % 60, "minute"],
    [Math.floor(seconds) % 60, "second"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "less than a second";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => counted(count, unit))
    .join(" ");
}

function Daemon({ health }: { health: Health }) {
  return (
    <Card title="Daemon">
      <Fact name="Version">{health.version}</Fact>
      <Fact name="Running for">{duration(Number(health.uptime))}</Fact>
      <Fact name="Instance">
        <code>{health.instance}</code>
      </Fact>
      <Fact name="Name on the bus">{health.service_name}</Fact>
      {health.replica !== undefined && (
        <>
          <Fact name="This daemon">
            {health.replica.name} ({health.replica.role})
          </Fact>
          <Fact name="Behind the others by">{Number(health.replica.lag_seconds).toFixed(1)} seconds</Fact>
        </>
      )}
    </Card>
  );
}

function Configurations({ health }: { health: Health }) {
  const refused = health.refused_edits ?? [];
  return (
    <Card title="Configurations">
      <Fact name="Active environment">
        <a href={href(["environments"])}>{health.environment}</a>
      </Fact>
      <Fact name="Services">
        <a href={href(["services"])}>{health.configs_managed}</a>
      </Fact>
      <Fact name="Last change">
        {health.last_update === null ? "none since the start" : <Time seconds={health.last_update} />}
      </Fact>
      <Fact name="Edits of files">
        {refused.length === 0
          ? "in force"
          : refused.map(({ file, line }) => (
              <span key={`${file} ${line}`}>
                refused: <code>{`${file || "the files"}${line === null ? "" : `:${line}`}`}</code>{" "}
              </span>
            ))}
      </Fact>
      <Fact name="Drift">
        <a href={href(["drift"])}>{health.drift === 0 ? "none" : counted(health.drift, "finding")}</a>
      </Fact>
    </Card>
  );
}

function Bus({ health }: { health: Health }) {
  const pending = Number(health.outbox_pending);
  return (
    <Card title="Message bus">
      <Fact name="Broker">{health.mqtt_connected ? "connected" : "not connected"}</Fact>
      <Fact name="Messages on their way">
        {pending === 0 ? "none: the broker has every update" : `${pending}: the broker has not confirmed them`}
      </Fact>
      <Fact name="Services online">{health.services_online}</Fact>
      <Fact name="Device registry">
        {typeof health.device_registry === "number"
          ? counted(health.device_registry, "device")
          : health.device_registry}
      </Fact>
    </Card>
  );
}

function Requests({ health }: { health: Health }) {
  return (
    <Card title="Since the start">
      <Fact name="Requests answered">{health.messages_processed}</Fact>
      <Fact name="Of them refused or failed">{health.errors}</Fact>
      <Fact name="Writes that were not valid">{health.validation_errors}</Fact>
      <Fact name="Reads answered from memory">{`${(Number(health.cache_hit_rate) * 100).toFixed(0)} %`}</Fact>
    </Card>
  );
}

const REPLICA_TONES: Record<string, Tone> = { ready: "good", not_ready: "bad", gone: "bad" };
const REPLICA_STATES: Record<string, string> = { ready: "ready", not_ready: "not ready", gone: "gone" };

function Daemons({ data }: { data: Replicas }) {
  return (
    <>
      {data.replicas.length > 1 && (
        <p>
          {data.leader === null
            ? "None of them leads; one takes over as soon as it reaches the database."
            : `${data.leader} leads: it does what must happen once in the home.`}
        </p>
      )}
      {data.format_waits && <Notice title="The format of the database waits."> {data.format_waits}</Notice>}
      <ListTable
        caption="The daemons of this home"
        columns={["Daemon", "State", "Version", "Address", "Since", "Behind by"]}
      >
        {data.replicas.map((item) => (
          <tr key={item.replica}>
            <th scope="row">
              {item.name} {item.role === "leader" && <Tag tone="info">leads</Tag>}
            </th>
            <td data-label="State">
              <Tag tone={REPLICA_TONES[item.state] ?? "neutral"}>{REPLICA_STATES[item.state] ?? item.state}</Tag>{" "}
              {item.files_differ && <Tag tone="warning">other files</Tag>}
              {item.problem && <p class="reason">{item.problem}</p>}
            </td>
            <td data-label="Version">{item.version}</td>
            <td data-label="Address">
              <code>{item.url}</code>
            </td>
            <td data-label="Since">
              <Time seconds={item.since} />
            </td>
            <td data-label="Behind by">
              {Number(item.lag_commits) === 0
                ? "nothing"
                : `${item.lag_commits} changes, ${Number(item.lag_seconds).toFixed(1)} s`}
            </td>
          </tr>
        ))}
      </ListTable>
    </>
  );
}

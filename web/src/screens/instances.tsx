/** The running copies of services: which revision each applied, and why one rejected it. */

import { type Instance, type Instances, instances, type Service } from "../api/queries.ts";
import { href } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { useServices } from "../store/services.ts";
import { Announcement, Await, Heading, Tag, Time, type Tone } from "../ui/elements.tsx";
import { ListTable } from "../ui/list_table.tsx";
import { counted } from "../ui/words.ts";

const STATES: Record<Instance["status"], { tone: Tone; text: string }> = {
  applied: { tone: "good", text: "applied" },
  rejected: { tone: "bad", text: "rejected" },
  restart_pending: { tone: "warning", text: "restart pending" },
};

const BEHIND = { tone: "warning", text: "behind" } as const;

/** The copies of one service. */
export function InstancesTab({ service, env }: { service: string; env: string }) {
  const found = useInstances(service, env);
  return (
    <Await of={found}>
      {(data) =>
        data.instances.length === 0 ? (
          <p class="empty">
            No copy of this service has reported a revision. Services that use the client of aliciacfg report by
            themselves.
          </p>
        ) : (
          <>
            <Summary data={data} />
            <InstanceTable groups={[{ data, service, env }]} />
          </>
        )
      }
    </Await>
  );
}

function useInstances(service: string, env: string | undefined) {
  return useResource(`instances ${env ?? ""} ${service}`, (signal) => instances(service, env, signal), [
    `instances:${service}`,
    `change:${service}`,
    "environment",
  ]);
}

function Summary({ data }: { data: Instances }) {
  const behind = data.instances.filter(({ current }) => !current).length;
  const rejected = data.instances.filter(({ status }) => status === "rejected").length;
  const waiting = data.instances.filter(({ status }) => status === "restart_pending").length;
  const total = data.instances.length;
  const copies = total === 1 ? "The only copy" : `All ${total} copies`;
  const unlike = total === 1 ? "The only copy" : `${behind} of ${total} copies`;
  const text =
    behind === 0
      ? `${copies} run${total === 1 ? "s" : ""} revision ${data.revision}, the current one.`
      : `${unlike} ${behind === 1 ? "does" : "do"} not run revision ${data.revision}, the current one` +
        `${rejected > 0 ? `; ${total === 1 ? "it" : rejected} rejected it` : ""}` +
        `${waiting > 0 ? `; ${total === 1 ? "it" : waiting} ${waiting === 1 ? "waits" : "wait"} for a restart` : ""}.`;
  return (
    <>
      <p>{text}</p>
      <Announcement>{text}</Announcement>
    </>
  );
}

interface Group {
  data: Instances;
  service: string;
  env: string | undefined;
}

function InstanceTable({ groups, withService = false }: { groups: Group[]; withService?: boolean }) {
  return (
    <ListTable
      caption="The copies"
      columns={[...(withService ? ["Service"] : []), "Instance", "State", "Revision", "Since", "Last report"]}
    >
      {groups.map(({ data, service, env }) =>
        data.instances.map((item) => (
          <InstanceRow
            key={`${service} ${item.instance}`}
            item={item}
            current={data.revision}
            service={withService ? service : undefined}
            env={env}
          />
        )),
      )}
    </ListTable>
  );
}

function InstanceRow({
  item,
  current,
  service,
  env,
}: {
  item: Instance;
  current: number;
  service: string | undefined;
  env: string | undefined;
}) {
  // That an older revision was applied is no good news.
  const isBehind = !item.current && item.status === "applied";
  const { tone, text } = isBehind ? BEHIND : (STATES[item.status] ?? { tone: "neutral", text: item.status });
  return (
    <tr>
      {service !== undefined && (
        <th scope="row">
          <a href={href(["services", service], { env, tab: "instances" })}>{service}</a>
        </th>
      )}
      <td data-label="Instance">
        <code>{item.instance}</code>
      </td>
      <td data-label="State">
        <Tag tone={tone}>{text}</Tag>
        {item.error && <p class="reason">{item.error}</p>}
      </td>
      <td data-label="Revision">
        {item.revision}
        {item.revision !== current && <span class="muted"> (current: {current})</span>}
      </td>
      <td data-label="Since">
        <Time seconds={item.since} />
      </td>
      <td data-label="Last report">
        <Time seconds={item.last_seen} />
      </td>
    </tr>
  );
}

/** All services of which a copy does not run the current revision, or waits for a restart. */
export function InstancesScreen(_: ScreenProps) {
  const all = useServices(undefined);
  return (
    <>
      <Heading title="Instances" />
      <Await of={all}>{({ configs }) => <Overview services={configs} />}</Await>
    </>
  );
}

function Overview({ services }: { services: readonly Service[] }) {
  const unsettled = services.filter(({ status }) => (status?.behind ?? 0) > 0);
  const total = services.reduce((sum, { status }) => sum + (status?.instances ?? 0), 0);
  const reporting = services.filter(({ status }) => (status?.instances ?? 0) > 0);
  return (
    <>
      <p>
        {total === 0
          ? "No copy of a service has reported which revision it applied."
          : `${counted(total, "copy", "copies")} of ${counted(reporting.length, "service")} ` +
            "report which revision they applied."}{" "}
        <span class="muted">Services that use the client of aliciacfg do so by themselves.</span>
      </p>
      <h2>Behind, rejected or waiting for a restart</h2>
      {unsettled.length === 0 ? (
        <p class="empty">Every copy that reports runs the current revision.</p>
      ) : (
        unsettled.map(({ service }) => <Unsettled key={service} service={service} />)
      )}
      {reporting.length > 0 && (
        <>
          <h2>All services that report</h2>
          <ul class="columns">
            {reporting.map(({ service, status }) => (
              <li key={service}>
                <a href={href(["services", service], { tab: "instances" })}>{service}</a>{" "}
                <span class="muted">
                  {(status?.instances ?? 0) - (status?.behind ?? 0)} of {status?.instances}
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

function Unsettled({ service }: { service: string }) {
  const found = useInstances(service, undefined);
  return (
    <section class="panel" aria-label={service}>
      <h3>
        <a href={href(["services", service], { tab: "instances" })}>{service}</a>
      </h3>
      <Await of={found}>
        {(data) => {
          const items = data.instances.filter(({ current, status }) => !current || status !== "applied");
          return (
            <>
              <Summary data={data} />
              {items.length > 0 && (
                <InstanceTable groups={[{ data: { ...data, instances: items }, service, env: undefined }]} />
              )}
            </>
          );
        }}
      </Await>
    </section>
  );
}

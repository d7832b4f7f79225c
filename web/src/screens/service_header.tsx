/** The head of the screen of one service: in which state it is, and in which environment. */

import { environments } from "../api/queries.ts";
import type { Configuration, Status } from "../edit/service_data.ts";
import { changeQuery, href, type Route } from "../router.ts";
import { useResource } from "../store/resources.ts";
import { Field, Notice, Tag, Time } from "../ui/elements.tsx";
import { visible } from "../ui/value_rows.ts";
import { RefusedList } from "./refused_edits.tsx";
import { servicesHref } from "./services.tsx";

interface ServiceHeaderProps {
  name: string;
  data: Configuration;
  status: Status | undefined;
  isProtected: boolean;
  route: Route;
  /** Opens the review of taking back every run-time change; undefined if there is none, or the caller may not. */
  onReset: (() => void) | undefined;
}

export function ServiceHeader({ name, data, status, isProtected, route, onReset }: ServiceHeaderProps) {
  const { instances = 0, behind = 0, rejected = 0, restart_pending = 0 } = status ?? {};
  // The others of those behind have only not said anything yet.
  const silent = behind - rejected - restart_pending;
  return (
    <>
      <div class="service-head">
        <Environment data={data} route={route} />
        <dl class="service-facts">
          <Fact title="Revision">{data.revision === 0 ? "none yet" : data.revision}</Fact>
          {data.version && <Fact title="Version">{data.version}</Fact>}
          {data.last_updated !== undefined && (
            <Fact title="Last change">
              <Time seconds={data.last_updated} />
              {status?.author && ` by ${visible(status.author)}`}
              {status?.comment && " "}
              {status?.comment && <q>{visible(status.comment)}</q>}
            </Fact>
          )}
        </dl>
        <div class="service-states">
          {status?.active === false && <Tag>not the active environment</Tag>}
          {isProtected && <Tag tone="warning">protected</Tag>}
          {status?.online !== undefined && (
            <Tag tone={status.online ? "good" : "neutral"}>{status.online ? "online" : "offline"}</Tag>
          )}
          {(status?.drift ?? 0) > 0 && (
            <a href={href(["drift"])}>
              <Tag tone="bad">{status?.drift === 1 ? "drift" : `drift: ${status?.drift}`}</Tag>
            </a>
          )}
          {silent > 0 && (
            <Tag tone="warning">
              {instances === 1 ? "its only copy is behind" : `${silent} of ${instances} copies behind`}
            </Tag>
          )}
          {restart_pending > 0 && <Tag tone="warning">restart pending</Tag>}
          {rejected > 0 && (
            <Tag tone="bad">
              {instances === 1 ? "rejected by its only copy" : `rejected by ${rejected} of its copies`}
            </Tag>
          )}
        </div>
        {onReset !== undefined && (
          <button type="button" onClick={onReset}>
            Take back all run-time changes …
          </button>
        )}
      </div>
      <Refusals name={name} refused={data.refused_edits} />
    </>
  );
}

function Fact({ title, children }: { title: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{title}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Environment({ data, route }: { data: Configuration; route: Route }) {
  const known = useResource("environments", environments, ["environment", "files"]);
  const names = known.data?.environments.map(({ name }) => name) ?? [];
  if (!names.includes(data.environment)) {
    return (
      <dl class="service-facts">
        <Fact title="Environment">{data.environment}</Fact>
      </dl>
    );
  }
  return (
    <Field label="Environment">
      {({ id }) => (
        <select
          id={id}
          value={data.environment}
          onChange={(event) =>
            changeQuery({ ...route.query, env: event.currentTarget.value, review: undefined }, { replace: false })
          }
        >
          {names.map((name) => (
            <option key={name} value={name}>
              {name === known.data?.active ? `${name} (active)` : name}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** Edits of files that are not in force: first those that are about the service. */
function Refusals({ name, refused }: { name: string; refused: Configuration["refused_edits"] }) {
  if (refused.length === 0) return null;
  const named = refused.filter(({ service }) => service === name);
  const others = refused.length - named.length;
  if (named.length === 0) {
    return (
      <p class="muted">
        Edits of files are refused at present; none of them is about {name} alone.{" "}
        <a href={servicesHref.value}>Which ones</a>
      </p>
    );
  }
  return (
    <Notice lasting tone="warning" title="Edits of files are refused; what was in force before goes on.">
      <RefusedList edits={named} />
      {others > 0 && <a href={servicesHref.value}>All refused edits</a>}
    </Notice>
  );
}

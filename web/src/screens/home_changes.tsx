/** What a change of many services does: what most have in common once, then service by service. */

import { useMemo } from "preact/hooks";
import type { Answers } from "../api/client.ts";
import { href } from "../router.ts";
import { BrokerAway } from "../ui/broker_away.tsx";
import { useDeferred } from "../ui/deferred.ts";
import { Differences } from "../ui/differences.tsx";
import { Disclosure } from "../ui/disclosure.tsx";
import { Tag } from "../ui/elements.tsx";
import { counted } from "../ui/words.ts";
import { homeChanges, type ServiceChanges } from "./changes.ts";
import { Pointers } from "./problem_list.tsx";

type Answer = Partial<
  Pick<
    Answers["ActivateAnswer"],
    | "previous"
    | "changes"
    | "changes_left_out"
    | "added"
    | "removed"
    | "restart_required"
    | "lacking_secrets"
    | "waits_for_broker"
  >
>;

interface Props {
  answer: Answer;
  /** What a name is: services, or the environments of a migration. */
  noun?: string;
  /** The address of the whole comparison of a service, where there is one. */
  compare?: (service: string) => string;
  /** The environment in which the services are. */
  env: string;
  /** Begins the names of the parts that can be opened, where a screen shows several answers. */
  of?: string;
}

/** The services of an activation or a reload: old and new values, what is new or gone, who restarts, lacking secrets. */
export function HomeChanges(props: Props) {
  // The same element at each rendering of the screen around: of a large home, these are many.
  return useMemo(() => <Changes {...props} />, [props.answer, props.env, props.of]);
}

function Changes({ answer, noun = "service", compare, env, of = "" }: Props) {
  const { shared, services, places } = useMemo(
    () => homeChanges(answer.changes ?? {}, answer.changes_left_out),
    [answer],
  );
  // At most one change of a place is that of most services.
  const sharedBy = new Map(shared.map(({ change, services: names }) => [change.pointer, names.length]));
  const restarting = new Set(answer.restart_required ?? []);
  const lacking = Object.entries(answer.lacking_secrets ?? {});
  // Those that have nothing but what most have.
  const alike = services.filter((found) => ownPlaces(found) === 0).map(({ service }) => service);
  const different = services.filter((found) => ownPlaces(found) > 0);
  const shown = useDeferred(different.length);
  return (
    <>
      {answer.waits_for_broker && <BrokerAway />}
      {lacking.length > 0 && (
        <Disclosure
          name={`${of}-lacking`}
          class="panel"
          open={lacking.length < FEW}
          summary={
            <>
              <Tag tone="warning">lacking secrets</Tag> {counted(lacking.length, "service lacks", "services lack")}{" "}
              secrets afterwards
            </>
          }
        >
          <ul class="pointers">
            {lacking.map(([service, pointers]) => (
              <li key={service}>
                <a href={href(["services", service], { env })}>{service}</a>:{" "}
                <Pointers name={`${of}-lacking:${service}`} of={pointers} few={3} />
              </li>
            ))}
          </ul>
        </Disclosure>
      )}
      <Names of={of} title="without a configuration before" names={answer.added} tone="info" tag="new" env={env} />
      <Names
        of={of}
        title="without a configuration afterwards"
        names={answer.removed}
        tone="bad"
        tag="removed"
        env={answer.previous ?? env}
      />
      {services.length > 0 && (
        <p>
          {counted(places, "place")} in {counted(services.length, noun)}
          {shared.length > 0 && "; what most have in common is listed once"}.
        </p>
      )}
      {shared.length > 0 && (
        <Disclosure name={`${of}-common`} class="panel" open summary={`In most ${noun}s`}>
          <Differences
            changes={shared.map(({ change }) => change)}
            beside={({ pointer }) => (
              <span class="muted">{sharing(sharedBy.get(pointer) ?? 0, services.length, noun)}</span>
            )}
          />
        </Disclosure>
      )}
      {alike.length > 0 && <Alike of={of} names={alike} all={services.length} restarting={restarting} noun={noun} />}
      {different.slice(0, shown).map((found) => (
        <Changed
          key={found.service}
          of={of}
          found={found}
          restart={restarting.has(found.service)}
          open={different.length <= FEW_SERVICES}
          {...(compare === undefined ? {} : { compare: compare(found.service) })}
        />
      ))}
    </>
  );
}

function sharing(count: number, all: number, noun: string): string {
  return count === all ? `in all ${all} ${noun}s` : `in ${count} of ${all} ${noun}s`;
}

function ownPlaces({ changes, leftOut }: ServiceChanges): number {
  return changes.length + leftOut;
}

const FEW = 8;
const MANY = 12;
const FEW_SERVICES = 40;

interface AlikeProps {
  of: string;
  names: readonly string[];
  all: number;
  restarting: ReadonlySet<string>;
  noun: string;
}

function Alike({ of, names, all, restarting, noun }: AlikeProps) {
  const marked = names.filter((name) => restarting.has(name));
  return (
    <Disclosure
      name={`${of}-alike`}
      class="panel"
      open={names.length <= FEW_SERVICES}
      summary={
        <>
          Nothing else in {names.length === all ? `all ${all} ${noun}s` : counted(names.length, noun)}{" "}
          {marked.length === names.length && <Tag tone="warning">restart needed</Tag>}
        </>
      }
    >
      <ul class="names">
        {names.map((name) => (
          <li key={name}>
            {name} {marked.length < names.length && restarting.has(name) && <Tag tone="warning">restart needed</Tag>}
          </li>
        ))}
      </ul>
    </Disclosure>
  );
}

interface ChangedProps {
  of: string;
  found: ServiceChanges;
  restart: boolean;
  open: boolean;
  compare?: string;
}

function Changed({ of, found, restart, open, compare }: ChangedProps) {
  const { service, changes, count, leftOut } = found;
  const own = ownPlaces(found);
  return (
    <Disclosure
      name={`${of}${service}`}
      class="panel"
      open={open && own <= MANY}
      summary={
        <>
          <strong>{service}</strong>{" "}
          <span class="muted">
            {own === count ? counted(count, "place") : `${own} of its ${counted(count, "place")}`}
          </span>{" "}
          {restart && <Tag tone="warning">restart needed</Tag>}
        </>
      }
    >
      <Differences changes={changes} empty="" />
      {leftOut > 0 && (
        <p>
          {counted(leftOut, "further place is", "further places are")} not listed here, because there are so many or
          their values are so long. {compare !== undefined && <a href={compare}>All differences of {service}</a>}
        </p>
      )}
    </Disclosure>
  );
}

interface NamesProps {
  of: string;
  title: string;
  names: readonly string[] | undefined;
  tone: "info" | "bad";
  tag: string;
  env: string;
}

function Names({ of, title, names = [], tone, tag, env }: NamesProps) {
  if (names.length === 0) return null;
  return (
    <Disclosure
      name={`${of}-${tag}`}
      class="panel"
      open={names.length <= MANY}
      summary={
        <>
          <Tag tone={tone}>{tag}</Tag> {counted(names.length, "service")} {title}
        </>
      }
    >
      <ul class="pointers">
        {names.map((name) => (
          <li key={name}>
            <a href={href(["services", name], { env })}>{name}</a>
          </li>
        ))}
      </ul>
    </Disclosure>
  );
}

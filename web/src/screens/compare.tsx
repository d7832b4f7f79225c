/** Compare: one service on two sides, or all services of two environments. */

import { useEffect, useMemo } from "preact/hooks";
import { environments } from "../api/queries.ts";
import { changeQuery, href, route } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { type Comparison as Compared, Comparisons, differs } from "../store/comparisons.ts";
import { onEvent, useResource } from "../store/resources.ts";
import { useServices } from "../store/services.ts";
import { useDeferred } from "../ui/deferred.ts";
import { Announcement, Await, Field, Heading, Notice, Tag } from "../ui/elements.tsx";
import { ListTable } from "../ui/list_table.tsx";
import { Separated } from "../ui/place_name.tsx";
import { useQueryText } from "../ui/query_text.ts";
import { SearchField } from "../ui/search_field.tsx";
import { counted } from "../ui/words.ts";
import { Comparison, SidesChoice, useSides } from "./comparison.tsx";
import { compare, type Sides } from "./history_queries.ts";

/** The comparison within a service: its environment against another one, unless the address says something else. */
export function CompareTab({ service, env }: { service: string; env: string }) {
  const sides = useSides(env, service);
  if (sides === undefined) return null;
  return <Comparison service={service} sides={sides} />;
}

/** The comparison of any service, or of all. */
export function CompareScreen({ route: { query } }: ScreenProps) {
  const known = useResource("environments", environments, ["environment", "files"]);
  const { service } = query;
  const sides = useSides(undefined, service);
  return (
    <>
      <Heading title={service === undefined ? "Compare environments" : `Compare ${service}`} />
      {sides === undefined ? (
        <Await of={known}>{() => null}</Await>
      ) : (
        <>
          {service !== undefined && (
            <p class="trail">
              <a href={href(["compare"], { env1: sides.env1, env2: sides.env2 })}>All services</a>
              <a href={href(["services", service], { env: sides.env1 })}>
                {service} in {sides.env1}
              </a>
              <a href={href(["services", service], { env: sides.env2 })}>
                {service} in {sides.env2}
              </a>
            </p>
          )}
          {service === undefined ? (
            <>
              <SidesChoice sides={sides} />
              <Overview key={`${sides.env1} ${sides.env2}`} sides={sides} />
            </>
          ) : (
            <Comparison service={service} sides={sides} />
          )}
        </>
      )}
    </>
  );
}

/** The last pair of environments that was compared: who comes back to it finds what was compared then. */
let last: { key: string; comparisons: Comparisons } | undefined;

function useComparisons(env1: string, env2: string): Comparisons {
  return useMemo(() => {
    const key = JSON.stringify([env1, env2]);
    if (last?.key !== key) {
      last = { key, comparisons: new Comparisons((service, signal) => compare(service, { env1, env2 }, signal)) };
      follow(last.comparisons, [env1, env2]);
    }
    return last.comparisons;
  }, [env1, env2]);
}

/** Compare again what events say has changed, for as long as it is the pair that was compared last. */
function follow(comparisons: Comparisons, pair: readonly string[]): void {
  const end = onEvent(({ kind, data }) => {
    if (last?.comparisons !== comparisons) end();
    else if (kind === "change") {
      const { service, environment } = data as { service?: string; environment?: string };
      if (environment !== undefined && pair.includes(environment)) comparisons.renew((name) => name === service);
    } else if (kind === "files") {
      // What is valid is a revision, of which another event tells.
      comparisons.renew(
        (_, found) => found.kind === "failed" || (found.kind === "compared" && found.summary.invalid.length > 0),
      );
    } else if (kind === "reset" || (kind === "hello" && (data as { resumed?: boolean }).resumed !== true)) {
      comparisons.renew(() => true);
    }
  });
}

type Only = "differing" | "all" | "problems";

/** Which services differ between two environments. In the address: `search` and `only`. */
function Overview({ sides: { env1, env2 } }: { sides: Sides }) {
  const first = useServices(env1);
  const second = useServices(env2);
  const known = useResource("environments", environments, ["environment", "files"]);
  const comparisons = useComparisons(env1, env2);
  const [search, setSearch, writeSearch] = useQueryText("search");
  const { only: wanted } = route.value.query;
  const only: Only = wanted === "all" || wanted === "problems" ? wanted : "differing";
  const names = useMemo(() => {
    const inEnvironment = (env: string, listed: typeof first.data) =>
      new Set([
        ...(listed?.configs.map(({ service }) => service) ?? []),
        // Also those that the files define, and of which they yield nothing valid. Who may read only some services sees
        // the first of these lists alone, and where no files can be read, there is but the second one.
        ...(listed?.invalid.map(({ service }) => service) ?? []),
        ...(known.data?.environments.find(({ name }) => name === env)?.services ?? []),
      ]);
    const [one, two] = [inEnvironment(env1, first.data), inEnvironment(env2, second.data)];
    return { one, two, all: [...new Set([...one, ...two])].sort() };
  }, [first.data, second.data, known.data, env1, env2]);
  const both = useMemo(() => names.all.filter((name) => names.one.has(name) && names.two.has(name)), [names]);
  const ready = first.data !== undefined && second.data !== undefined;
  useEffect(() => {
    if (ready) comparisons.want(both);
  }, [comparisons, both, ready]);
  useEffect(() => () => comparisons.pause(), [comparisons]);
  const version = comparisons.version.value;

  const rows = useMemo(() => {
    const text = search.trim().toLowerCase();
    return names.all
      .filter((name) => name.toLowerCase().includes(text))
      .map((service): Row => ({ service, where: where(names, service), found: comparisons.of(service) }))
      .filter((row) => only === "all" || (only === "differing" ? isDiffering(row) : isProblem(row)));
  }, [names, search, only, version, comparisons]);
  const shown = useDeferred(rows.length);

  if (env1 === env2) return <Notice title="Both sides are the same. Choose another environment for one of them." />;
  const compared = both.filter((name) => comparisons.of(name).kind !== "waiting").length;
  const differing = names.all.filter((service) =>
    isDiffering({ service, where: where(names, service), found: comparisons.of(service) }),
  ).length;
  const done = ready && compared === both.length;
  return (
    <Await of={first.data === undefined ? first : second}>
      {() => (
        <>
          <search class="filters">
            <SearchField hint="Name of a service" value={search} onValue={setSearch} onComplete={writeSearch} />
            <Field label="Show">
              {({ id }) => (
                <select
                  id={id}
                  value={only}
                  onChange={(event) =>
                    changeQuery({ only: event.currentTarget.value === "differing" ? "" : event.currentTarget.value })
                  }
                >
                  <option value="differing">services that differ</option>
                  <option value="problems">services with problems or lacking secrets</option>
                  <option value="all">all services</option>
                </select>
              )}
            </Field>
          </search>
          <p>
            {done
              ? `${differing.toLocaleString("en")} of ${counted(names.all.length, "service")} ${differing === 1 ? "differs" : "differ"}.`
              : `${compared.toLocaleString("en")} of ${counted(both.length, "service")} compared …`}
          </p>
          {!done && <progress max={both.length} value={compared} aria-label="Compared services" />}
          <Announcement>{done ? `${counted(differing, "service differs", "services differ")}.` : ""}</Announcement>
          {rows.length > 0 ? (
            <ListTable caption="The services, with what differs of each" columns={["Service", "Differences", "State"]}>
              {rows.slice(0, shown).map((row) => (
                <ServiceRow key={row.service} row={row} env1={env1} env2={env2} />
              ))}
            </ListTable>
          ) : (
            done && <p class="empty">No service matches the search and the filters.</p>
          )}
        </>
      )}
    </Await>
  );
}

interface Row {
  service: string;
  where: "both" | "first" | "second";
  found: Compared;
}

function where(names: { one: Set<string>; two: Set<string> }, service: string): Row["where"] {
  if (!names.two.has(service)) return "first";
  return names.one.has(service) ? "both" : "second";
}

function isDiffering({ where: place, found }: Row): boolean {
  return place !== "both" || found.kind === "failed" || (found.kind === "compared" && differs(found.summary));
}

function isProblem({ found }: Row): boolean {
  return (
    found.kind === "failed" ||
    (found.kind === "compared" && (found.summary.invalid.length > 0 || found.summary.lacking > 0))
  );
}

function ServiceRow({ row: { service, where: place, found }, env1, env2 }: { row: Row; env1: string; env2: string }) {
  if (place !== "both") {
    const only = place === "first" ? env1 : env2;
    return (
      <tr>
        <th scope="row">
          <a href={href(["services", service], { env: only })}>{service}</a>
        </th>
        <td data-label="Differences">only in {only}</td>
        <td data-label="State">
          <Tag tone="info">only in {only}</Tag>
        </td>
      </tr>
    );
  }
  const states = [];
  if (found.kind === "failed") states.push(<Tag tone="bad">not compared</Tag>);
  if (found.kind === "compared") {
    for (const name of found.summary.invalid) states.push(<Tag tone="bad">not valid in {name}</Tag>);
    if (found.summary.lacking > 0) {
      states.push(
        <Tag tone="warning">
          {env2} lacks {counted(found.summary.lacking, "secret")}
        </Tag>,
      );
    }
  }
  return (
    <tr>
      <th scope="row">
        <a href={href(["compare"], { service, env1, env2 })}>
          <Separated text={service} />
        </a>
      </th>
      <td data-label="Differences">{differences(found, env1, env2)}</td>
      <td data-label="State">{states.length > 0 && <span class="tags">{states}</span>}</td>
    </tr>
  );
}

function differences(found: Compared, env1: string, env2: string): string {
  if (found.kind === "waiting") return "…";
  if (found.kind === "failed") return found.message;
  const { changed, onlyFirst, onlySecond } = found.summary;
  const parts = [
    changed > 0 && counted(changed, "value differs", "values differ"),
    onlyFirst > 0 && `${onlyFirst} only in ${env1}`,
    onlySecond > 0 && `${onlySecond} only in ${env2}`,
  ].filter(Boolean);
  return parts.length === 0 ? "none" : parts.join(", ");
}

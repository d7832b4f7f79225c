/** The list of services: what each runs, what is wrong with it, and who changed it last. */

import { computed, signal } from "@preact/signals";
import { Component, type ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { type Services as All, environments, type InvalidService } from "../api/queries.ts";
import { remember, remembered } from "../memory.ts";
import { changeQuery, href, parseHash, type RouteQuery } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { draftsOf } from "../store/drafts.ts";
import { useResource } from "../store/resources.ts";
import { useServices } from "../store/services.ts";
import { useWhoami } from "../store/whoami.ts";
import { Announcement, Await, Chip, Field, Heading, Notice, Time } from "../ui/elements.tsx";
import { useLongList } from "../ui/long_list.ts";
import { useQueryText } from "../ui/query_text.ts";
import { SearchField } from "../ui/search_field.tsx";
import { ASK_TOKEN } from "../ui/token_dialog.tsx";
import { counted } from "../ui/words.ts";
import { RefusedEdits } from "./refused_edits.tsx";
import {
  asListed,
  FILTERS,
  type Filter,
  inOrder,
  type Listed,
  matches,
  readFilters,
  readSort,
  type Sort,
  type SortKey,
} from "./service_filters.ts";
import { ServiceState } from "./service_state.tsx";

const COLUMNS: readonly { key: SortKey; title: string }[] = [
  { key: "service", title: "Service" },
  { key: "version", title: "Version" },
  { key: "revision", title: "Revision" },
  { key: "state", title: "State" },
  { key: "changed", title: "Last change" },
];

/** The name under which the browser remembers the filters and the order of the list. */
const REMEMBERED = "services";
/** The query with which the list was left; after a start, the filters and the order of the last time. */
const lastQuery = signal<RouteQuery>(parseHash(`?${remembered(REMEMBERED) ?? ""}`).query);
/** The address of the list as it was left. */
export const servicesHref = computed(() => href(["services"], lastQuery.value));

/** The services of an environment. Search, environment, filters and order are in the address. */
export function Services({ route }: ScreenProps) {
  const { env, only, sort: order } = route.query;
  const filters = readFilters(only);
  const sort = readSort(order);
  const [search, setSearch, writeSearch] = useQueryText("search");
  const all = useServices(env);
  const mayCreate = useWhoami().data?.write === "all";
  useEffect(() => {
    lastQuery.value = { ...route.query, [ASK_TOKEN]: undefined };
    const query = href([], { only, sort: order }).replace(/^#\/\??/, "");
    remember(REMEMBERED, query || undefined);
  }, [route]);
  return (
    <>
      <Heading title="Services">
        {all.data !== undefined && (
          <span class="muted">
            {all.data.configs.length + all.data.invalid.length} in{" "}
            {(all.data.configs[0] ?? all.data.invalid[0])?.environment ?? env ?? "the active environment"}
            {all.data.protected && " (protected)"}
          </span>
        )}
        {mayCreate && <a href={href(["new-service"], { env })}>New service …</a>}
      </Heading>
      <search class="filters service-filters">
        <SearchField
          hint="Search name, author or comment"
          value={search}
          onValue={setSearch}
          onComplete={writeSearch}
        />
        <EnvironmentChoice env={env} />
        <Order sort={sort} />
      </search>
      <Await of={all}>
        {(data) => (
          <>
            <RefusedEdits edits={data.refused_edits} />
            <Invalid services={data.invalid} env={env} />
            {!data.active && (
              <Notice title={`${env} is not the active environment.`}>
                {" "}
                Services get what another environment says. <a href={href(["environments"])}>Environments</a>
              </Notice>
            )}
            <List
              data={data}
              search={search}
              filters={filters}
              sort={sort}
              env={env}
              mayCreate={mayCreate}
              onClear={() => setSearch("")}
            />
          </>
        )}
      </Await>
    </>
  );
}

/** The order of the list where the titles of its columns, which sort it elsewhere, have no room. */
function Order({ sort }: { sort: Sort }) {
  const value = `${sort.descending ? "-" : ""}${sort.key}`;
  return (
    <div class="on-phones">
      <Field label="Order">
        {({ id }) => (
          <select id={id} value={value} onChange={(event) => changeQuery({ sort: event.currentTarget.value })}>
            {!ORDERS.some(([order]) => order === value) && <option value={value}>As chosen</option>}
            {ORDERS.map(([order, title]) => (
              <option key={order} value={order}>
                {title}
              </option>
            ))}
          </select>
        )}
      </Field>
    </div>
  );
}

const ORDERS: readonly (readonly [order: string, title: string])[] = [
  ["service", "By name"],
  ["-changed", "Last changed first"],
  ["-state", "Problems first"],
];

function EnvironmentChoice({ env }: { env: string | undefined }) {
  const { data } = useResource("environments", environments, ["environment", "files"]);
  if (data === undefined) return null;
  const others = data.environments.map(({ name }) => name).filter((name) => name !== data.active);
  return (
    <Field label="Environment">
      {({ id }) => (
        <select
          id={id}
          value={env === data.active ? "" : (env ?? "")}
          onChange={(event) => changeQuery({ env: event.currentTarget.value }, { replace: false })}
        >
          <option value="">{data.active} (active)</option>
          {others.map((name) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

function Invalid({ services, env }: { services: InvalidService[]; env: string | undefined }) {
  const environment = services[0]?.environment ?? env;
  if (environment === undefined || services.length === 0) return null;
  return (
    <Notice
      lasting
      tone="warning"
      title={`${counted(services.length, "service has", "services have")} no configuration in ${environment}.`}
    >
      {" "}
      What their files say is not valid. <a href={href(["environments", environment])}>What they need</a>
    </Notice>
  );
}

interface ListProps {
  data: All;
  search: string;
  filters: readonly Filter[];
  sort: Sort;
  env: string | undefined;
  mayCreate: boolean;
  onClear: () => void;
}

/** Where somebody left a list: who comes back to it finds it there. */
const left = { list: "", shown: 0, top: 0 };

function List({ data, search, filters, sort, env, mayCreate, onClear }: ListProps) {
  const names = draftsOf();
  const all = useMemo(() => [...data.configs, ...data.invalid.map(asListed)], [data.configs, data.invalid]);
  const ordered = useMemo(() => inOrder(all, sort), [all, sort.key, sort.descending]);
  const found = useMemo(
    () => ordered.filter(matches(search, filters, names)),
    [ordered, search, filters.join(), names],
  );
  const list = JSON.stringify([env, search, filters, sort]);
  const isBack = left.list === list;
  const body = useRef<HTMLTableSectionElement>(null);
  const { shown, rest } = useLongList(found.length, list, body, isBack ? left.shown : undefined);
  const place = useRef({ list, shown });
  place.current = { list, shown };
  useLayoutEffect(() => {
    let top = isBack ? left.top : 0;
    // The heading, which comes before, took the focus, and that shows the beginning of the page.
    if (isBack) scrollTo(0, top);
    const follow = () => {
      top = scrollY;
    };
    addEventListener("scroll", follow, { passive: true });
    return () => {
      removeEventListener("scroll", follow);
      Object.assign(left, place.current, { top });
    };
  }, []);
  const filtered = search !== "" || filters.length > 0;
  const clear = (event: MouseEvent) => {
    onClear();
    changeQuery({ only: undefined, search: undefined });
    // The button goes. After a finger the keyboard of a phone would come up.
    if (event.detail === 0) document.querySelector<HTMLElement>("main input[type=search]")?.focus();
  };
  const count = found.length === all.length ? `${found.length} services` : `${found.length} of ${all.length} services`;
  return (
    <>
      {all.length > 0 && (
        <FilterChips services={all} filters={filters} drafts={names}>
          {filtered && (
            <button type="button" class="link" onClick={clear}>
              Clear
            </button>
          )}
        </FilterChips>
      )}
      <Announcement>{count}</Announcement>
      {found.length === 0 ? (
        <div class="empty">
          {all.length > 0 ? (
            <>
              <p>No service matches the search and the filters.</p>
              <button type="button" onClick={clear}>
                Show all services
              </button>
            </>
          ) : (
            <p>
              No service has a configuration here. <code>aliciacfg service add NAME</code> adds one to the files
              {mayCreate && "; “New service …” above begins one without a file"}.
            </p>
          )}
        </div>
      ) : (
        <table
          class={`list services${data.invalid.length > 0 ? " with-reasons" : ""}`}
          aria-rowcount={found.length + 1}
        >
          <caption class="visually-hidden">{count}</caption>
          <Head sort={sort} />
          <tbody ref={body}>
            {blocks(found, shown).map((items, at) => (
              <Block key={at * BLOCK} items={items} from={at * BLOCK} env={env} drafts={names} />
            ))}
          </tbody>
        </table>
      )}
      {rest > 0 && <div style={{ height: `${rest}px` }} />}
    </>
  );
}

function FilterChips({
  services,
  filters,
  drafts: names,
  children,
}: {
  services: readonly Listed[];
  filters: readonly Filter[];
  drafts: ReadonlySet<string>;
  children: ComponentChildren;
}) {
  const counts = useMemo(
    () => FILTERS.map(({ test }) => services.filter((item) => test(item, names)).length),
    [services, names],
  );
  return (
    <fieldset class="chips">
      <legend class="visually-hidden">Show only services</legend>
      {FILTERS.map(({ name, title }, at) => {
        const pressed = filters.includes(name);
        // So rare that it is offered only where there are some.
        if (name === "invalid" && counts[at] === 0 && !pressed) return null;
        const others = filters.filter((other) => other !== name);
        return (
          <Chip
            key={name}
            pressed={pressed}
            count={counts[at]}
            onClick={() => changeQuery({ only: (pressed ? others : [...filters, name]).join(",") })}
          >
            {title}
          </Chip>
        );
      })}
      {children}
    </fieldset>
  );
}

function Head({ sort }: { sort: Sort }) {
  return (
    <thead>
      <tr>
        {COLUMNS.map(({ key, title }) => {
          const active = sort.key === key;
          const next = active ? !sort.descending : key === "changed" || key === "state";
          return (
            <th
              key={key}
              scope="col"
              class={`column-${key}`}
              {...(active ? { "aria-sort": sort.descending ? "descending" : "ascending" } : {})}
            >
              <button type="button" class="sort" onClick={() => changeQuery({ sort: `${next ? "-" : ""}${key}` })}>
                {title}
                {active && <span aria-hidden="true">{sort.descending ? " ↓" : " ↑"}</span>}
              </button>
            </th>
          );
        })}
      </tr>
    </thead>
  );
}

/** So many rows are compared with those before as one. */
const BLOCK = 40;

function blocks(items: readonly Listed[], shown: number): Listed[][] {
  const found: Listed[][] = [];
  for (let from = 0; from < shown; from += BLOCK) found.push(items.slice(from, Math.min(from + BLOCK, shown)));
  return found;
}

interface BlockProps {
  items: readonly Listed[];
  /** The place of the first one in the list, from 0. */
  from: number;
  env: string | undefined;
  drafts: ReadonlySet<string>;
}

/** Some rows, which are looked at only when one of them changed. */
class Block extends Component<BlockProps> {
  override shouldComponentUpdate({ items, env, drafts }: BlockProps): boolean {
    const before = this.props;
    return (
      env !== before.env ||
      drafts !== before.drafts ||
      items.length !== before.items.length ||
      items.some((item, at) => item !== before.items[at])
    );
  }

  override render({ items, from, env, drafts }: BlockProps) {
    return items.map((item, at) => (
      <Row
        key={item.service}
        item={item}
        at={from + at}
        env={env}
        hasDraft={drafts.has(`${item.environment}/${item.service}`)}
      />
    ));
  }
}

interface RowProps {
  item: Listed;
  /** Its place in the list, from 0. */
  at: number;
  env: string | undefined;
  hasDraft: boolean;
}

function Row({ item, at, env, hasDraft }: RowProps) {
  // The same element as before is not looked at again.
  return useMemo(() => {
    const { author, comment } = item.status ?? {};
    return (
      <tr aria-rowindex={at + 2}>
        <th scope="row">
          <a href={href(["services", item.service], { env })}>{item.service}</a>
        </th>
        <td data-label="Version">{item.version || "–"}</td>
        <td data-label="Revision">{item.revision || "–"}</td>
        <td data-label="State">
          <ServiceState item={item} hasDraft={hasDraft} />
        </td>
        <td data-label="Last change">
          {item.last_updated ? <Time seconds={item.last_updated} /> : "–"}
          {author !== undefined && <span class="muted"> by {author}</span>}
          {comment && <span class="comment">{comment}</span>}
        </td>
      </tr>
    );
  }, [item, at, env, hasDraft]);
}

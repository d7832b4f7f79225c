/** Which services the list shows, and in which order. */

import type { InvalidService, Service } from "../api/queries.ts";

export type SortKey = "service" | "version" | "revision" | "state" | "changed";
export interface Sort {
  key: SortKey;
  descending: boolean;
}
const KEYS: readonly string[] = ["service", "version", "revision", "state", "changed"] satisfies SortKey[];

/** A service of the list; one that is not valid has no revision. */
export type Listed = Service & { invalid?: InvalidService };

/** Return a service without a configuration as the list shows it. */
export function asListed(invalid: InvalidService): Listed {
  const { service, environment, may_write } = invalid;
  const status = { may_write, problems: invalid.problems.length };
  return { service, environment, version: "", revision: 0, checksum: "", last_updated: 0, status, invalid };
}

type Drafts = ReadonlySet<string>;
export type Filter = "invalid" | "drift" | "offline" | "behind" | "restart" | "recent" | "draft";
/** A change is recent for a day. */
const RECENT_SECONDS = 86_400;

export const FILTERS: readonly { name: Filter; title: string; test: (item: Listed, drafts: Drafts) => boolean }[] = [
  { name: "invalid", title: "Not valid", test: ({ invalid }) => invalid !== undefined },
  { name: "drift", title: "Drift", test: ({ status }) => (status?.drift ?? 0) > 0 },
  {
    name: "behind",
    title: "Behind or rejected",
    test: ({ status }) => (status?.behind ?? 0) > 0,
  },
  { name: "restart", title: "Restart pending", test: ({ status }) => (status?.restart_pending ?? 0) > 0 },
  { name: "offline", title: "Offline", test: ({ status }) => status?.online === false },
  {
    name: "recent",
    title: "Changed in the last day",
    test: ({ last_updated }) => Number(last_updated) > Date.now() / 1000 - RECENT_SECONDS,
  },
  { name: "draft", title: "With a draft", test: (item, drafts) => drafts.has(`${item.environment}/${item.service}`) },
];

/** Read the filters of an address: names with commas; others are left out. */
export function readFilters(text = ""): Filter[] {
  const names = text.split(",");
  return FILTERS.map(({ name }) => name).filter((name) => names.includes(name));
}

/** Read the order of an address: the name of a column, with `-` before it if it descends. */
export function readSort(text = "service"): Sort {
  const key = text.replace(/^-/, "");
  return KEYS.includes(key)
    ? { key: key as SortKey, descending: text.startsWith("-") }
    : { key: "service", descending: false };
}

const { compare } = new Intl.Collator("en", { numeric: true });

function weight({ status = {}, invalid }: Listed): number {
  const { rejected = 0, drift = 0, behind = 0, restart_pending = 0, problems = 0, online } = status;
  return (
    (invalid === undefined ? 0 : 128) +
    (rejected > 0 ? 64 : 0) +
    (drift > 0 ? 32 : 0) +
    (behind > 0 ? 16 : 0) +
    (restart_pending > 0 ? 8 : 0) +
    (problems > 0 ? 4 : 0) +
    (online === false ? 2 : 0) +
    (online === true ? 1 : 0)
  );
}

const ORDERS: Record<SortKey, (one: Listed, other: Listed) => number> = {
  service: (one, other) => compare(one.service, other.service),
  version: (one, other) => compare(one.version, other.version),
  revision: (one, other) => one.revision - other.revision,
  state: (one, other) => weight(one) - weight(other),
  changed: (one, other) => Number(one.last_updated) - Number(other.last_updated),
};

/** Return services in an order; those that are equal in it are in the order of their names. */
export function inOrder(services: readonly Listed[], { key, descending }: Sort): Listed[] {
  const order = ORDERS[key];
  const sign = descending ? -1 : 1;
  return [...services].sort(
    (one, other) => sign * order(one, other) || (key === "service" ? 0 : compare(one.service, other.service)),
  );
}

/** Return a test of services: all words are in name, author or comment, and all filters let it pass. */
export function matches(search: string, filters: readonly Filter[], drafts: Drafts): (item: Listed) => boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const tests = FILTERS.filter(({ name }) => filters.includes(name));
  return (item) => {
    const { author = "", comment } = item.status ?? {};
    const text = `${item.service} ${author} ${comment ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word)) && tests.every(({ test }) => test(item, drafts));
  };
}

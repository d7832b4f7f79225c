/** The list of services, kept up to date by the events themselves, so that one change costs one small request. */

import type { ServerEvent } from "../api/event_stream.ts";
import { isEqual, isObject, type Json, type JsonObject } from "../api/json.ts";
import { listed, type Service, type Services, type Status, services } from "../api/queries.ts";
import { changeResource, type Loaded, useResource } from "./resources.ts";

const TOPICS = ["change", "instances", "online", "drift", "files", "environment"];
/** What an event does not say of a service is read so long after it, for all services with events meanwhile. */
const REST_MS = 300;
/** More services than this are read with the whole list. */
const MOST_SINGLE = 20;

const waiting = new Map<string, Set<string>>();

/** Use the services of an environment; undefined is the active one. */
export function useServices(env: string | undefined): Loaded<Services> & { refresh(): Promise<void> } {
  const key = `services ${env ?? ""}`;
  return useResource<Services>(
    key,
    async (signal) => reuse(known.get(key), await services(env, signal), key),
    TOPICS,
    (event, data) => {
      const patched = patchServices(event, data, env, (service) => readRest(key, env, service));
      if (patched !== undefined) known.set(key, patched);
      return patched;
    },
  );
}

/** The last list of each key: what did not change keeps its identity, so that its row is not rendered again. */
const known = new Map<string, Services>();

function reuse(before: Services | undefined, now: Services, key: string): Services {
  if (before !== undefined) {
    const old = new Map(before.configs.map((item) => [item.service, item]));
    now.configs = now.configs.map((item) => {
      const same = old.get(item.service);
      return same !== undefined && isEqual(same as unknown as Json, item as unknown as Json) ? same : item;
    });
  }
  known.set(key, now);
  return now;
}

/**
 * Return the list as it is after an event; undefined if it has to be loaded again.
 *
 * @param env The environment of the list; undefined for the active one.
 * @param read Is called with a service of which the event does not say all that the list shows.
 */
export function patchServices(
  event: ServerEvent,
  data: Services,
  env: string | undefined,
  read: (service: string) => void,
): Services | undefined {
  const said = isObject(event.data) ? event.data : {};
  switch (event.kind) {
    case "change":
      return patchChange(said, data, env ?? data.configs[0]?.environment, read);
    case "instances":
      if (typeof said.service === "string") read(said.service);
      return data;
    case "online": {
      const states = isObject(said.services) ? said.services : {};
      return patchStatus(data, (item) => {
        const online = states[item.service];
        return typeof online === "boolean" ? { online } : undefined;
      });
    }
    case "drift":
      return patchDrift(said, data);
    default:
      return undefined;
  }
}

function patchChange(
  said: JsonObject,
  data: Services,
  env: string | undefined,
  read: (service: string) => void,
): Services | undefined {
  const { service } = said;
  if (typeof service !== "string" || env === undefined) return undefined;
  if (said.environment !== env) return data;
  if (said.deleted === true) return { ...data, configs: data.configs.filter((item) => item.service !== service) };
  read(service);
  const before = data.configs.find((item) => item.service === service);
  const item: Service = {
    service,
    environment: env,
    version: String(said.version),
    revision: Number(said.revision),
    checksum: String(said.checksum),
    last_updated: Number(said.timestamp),
    status: {
      ...before?.status,
      author: String(said.author),
      cause: String(said.cause),
      comment: typeof said.comment === "string" ? said.comment : null,
      breaking: said.breaking === true,
      changed_count: Number(said.changed_count ?? 0),
    },
  };
  const configs =
    before === undefined ? [...data.configs, item] : data.configs.map((other) => (other === before ? item : other));
  const invalid = data.invalid.some((other) => other.service === service)
    ? data.invalid.filter((other) => other.service !== service)
    : data.invalid;
  return { ...data, configs, invalid };
}

function patchDrift(said: JsonObject, data: Services): Services | undefined {
  const findings = Array.isArray(said.drift) ? said.drift : [];
  if (Number(said.count ?? findings.length) > findings.length) return undefined;
  const counts = new Map<string, number>();
  for (const finding of findings) {
    if (isObject(finding) && typeof finding.service === "string")
      counts.set(finding.service, (counts.get(finding.service) ?? 0) + 1);
  }
  return patchStatus(data, (item) => {
    const now = counts.get(item.service) ?? 0;
    return now === (item.status?.drift ?? 0) ? undefined : { drift: now };
  });
}

function patchStatus(data: Services, change: (item: Service) => Status | undefined): Services {
  let changed = false;
  const configs = data.configs.map((item) => {
    const status = change(item);
    if (status === undefined) return item;
    changed = true;
    return { ...item, status: { ...item.status, ...status } };
  });
  return changed ? { ...data, configs } : data;
}

function readRest(key: string, env: string | undefined, service: string): void {
  const found = waiting.get(key);
  if (found !== undefined) {
    found.add(service);
    return;
  }
  waiting.set(key, new Set([service]));
  setTimeout(() => void readWaiting(key, env), REST_MS);
}

async function readWaiting(key: string, env: string | undefined): Promise<void> {
  const names = [...(waiting.get(key) ?? [])];
  waiting.delete(key);
  if (names.length > MOST_SINGLE) {
    changeResource<Services>(key, () => undefined);
    return;
  }
  try {
    const items = await Promise.all(names.map((name) => listed(env, name)));
    changeResource<Services>(key, (data) => {
      const found = new Map(names.map((name, at) => [name, items[at]]));
      const configs = data.configs.flatMap((item) => {
        if (!found.has(item.service)) return [item];
        const now = found.get(item.service);
        // An event that came meanwhile knows a later revision than this answer.
        if (now !== undefined && now.revision < item.revision) return [item];
        return now === undefined ? [] : [now];
      });
      const patched = { ...data, configs };
      known.set(key, patched);
      return patched;
    });
  } catch {
    changeResource<Services>(key, () => undefined);
  }
}

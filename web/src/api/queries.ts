/** The requests of the screens, by what they show. */

import { type Answers, configPath, RequestError, request } from "./client.ts";

/** What `include=status` adds to each service of the list. What is missing is 0, false or unknown. */
export interface Status {
  author?: string;
  cause?: string;
  comment?: string | null;
  breaking?: boolean;
  changed_count?: number;
  overlay?: boolean;
  may_write?: boolean;
  online?: boolean;
  drift?: number;
  instances?: number;
  behind?: number;
  rejected?: number;
  restart_pending?: number;
  problems?: number;
}
export type Service = Omit<Answers["ListItem"], "status"> & { status?: Status };
/** A service of the files that has no configuration, because what the files say of it is not valid. */
export interface InvalidService {
  service: string;
  environment: string;
  problems: Answers["Problem"][];
  missing: string[];
  may_write: boolean;
}
export type RefusedEdit = Answers["RefusedEdit"];
export interface Services {
  configs: Service[];
  invalid: InvalidService[];
  refused_edits: RefusedEdit[];
  /** Whether it is the active environment, and whether writes have to name the revision that they are based on. */
  active: boolean;
  protected: boolean;
}
export type Health = Answers["HealthAnswer"];
export type Environments = Answers["EnvironmentsAnswer"];
export type Drift = Answers["DriftAnswer"];
export type Finding = Answers["DriftItem"];
export type Audit = Answers["AuditAnswer"];
export type Audited = Answers["Audited"];
export type Instances = Answers["InstancesAnswer"];
export type Instance = Answers["InstanceItem"];
export type Replicas = Answers["ReplicasAnswer"];
export type Ready = { ready: boolean; mqtt_connected: boolean; reason?: string };

type ListPage = Omit<Answers["ListAnswer"], "configs"> & { configs: Service[] };

function listPage(
  environment: string | undefined,
  more: { after?: string | undefined; prefix?: string; limit: number },
  signal: AbortSignal | undefined,
): Promise<ListPage> {
  return request<ListPage>("GET", "/configs", {
    query: { environment, include: "status", ...more },
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Return all services of an environment, page by page. */
export async function services(environment: string | undefined, signal: AbortSignal): Promise<Services> {
  const first = await listPage(environment, { limit: 1000 }, signal);
  const configs = first.configs;
  for (let after = first.next; after !== null; ) {
    const page = await listPage(environment, { after, limit: 1000 }, signal);
    configs.push(...page.configs);
    after = page.next;
  }
  return {
    configs,
    invalid: first.invalid ?? [],
    refused_edits: first.refused_edits ?? [],
    active: first.active ?? environment === undefined,
    protected: first.protected ?? false,
  };
}

/** Return one service as it is in the list; undefined if it has no configuration. */
export async function listed(environment: string | undefined, service: string): Promise<Service | undefined> {
  // Of all names with this prefix the name itself comes first.
  const page = await listPage(environment, { prefix: service, limit: 1 }, undefined);
  return page.configs.find((item) => item.service === service);
}

export function drift(signal: AbortSignal): Promise<Drift> {
  return request("GET", "/drift", { signal });
}

export function audit(service: string | undefined, before: number | undefined, signal?: AbortSignal): Promise<Audit> {
  const query = { service, before, limit: 200 };
  return request("GET", "/audit", { query, ...(signal === undefined ? {} : { signal }) });
}

export function instances(service: string, environment: string | undefined, signal: AbortSignal): Promise<Instances> {
  return request("GET", configPath(service, "instances"), { query: { environment }, signal });
}

export function replicas(signal: AbortSignal): Promise<Replicas> {
  return request("GET", "/replicas", { signal });
}

/** Return whether the daemon is ready, and why if it is not. */
export async function ready(signal: AbortSignal): Promise<Ready> {
  try {
    return await request("GET", "/ready", { signal });
  } catch (error) {
    // It answers 503 with the same fields when it is not.
    if (error instanceof RequestError && "ready" in error.body) return error.body as unknown as Ready;
    throw error;
  }
}

export function health(signal: AbortSignal): Promise<Health> {
  return request("GET", "/health", { signal });
}

export function environments(signal: AbortSignal): Promise<Environments> {
  return request("GET", "/environments", { signal });
}

export function configuration(
  service: string,
  environment: string | undefined,
  signal: AbortSignal,
): Promise<Answers["ConfigAnswer"]> {
  return request("GET", configPath(service), { query: { environment }, signal });
}

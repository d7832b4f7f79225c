/** The requests of the screens, by what they show. */

import { type Answers, configPath, RequestError, request, token } from "./client.ts";

/** What an event has not told of yet is missing. */
export type Status = Partial<Omit<Answers["ServiceStatus"], "cause">> & { cause?: string };
export type Service = Omit<Answers["ListItem"], "status"> & { status?: Status };
export type InvalidService = Answers["InvalidService"];
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
export type Whoami = Answers["WhoamiAnswer"];
export type Environments = Answers["EnvironmentsAnswer"];
export type Drift = Answers["DriftAnswer"];
export type Finding = Answers["DriftItem"];
export type Alert = Answers["AlertItem"];
export type Audit = Answers["AuditAnswer"];
export type Audited = Answers["Audited"];
export type Instances = Answers["InstancesAnswer"];
export type Instance = Answers["InstanceItem"];
export type Replicas = Answers["ReplicasAnswer"];
export type Ready = { ready: boolean; mqtt_connected: boolean; reason?: string };

function listPage(
  environment: string | undefined,
  more: { after?: string | undefined; prefix?: string; limit: number },
  signal: AbortSignal | undefined,
): Promise<Omit<Answers["ListAnswer"], "configs"> & { configs: Service[] }> {
  return request("GET", "/configs", {
    query: { environment, include: "status", ...more },
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Return all services of an environment, page by page. */
export async function services(environment: string | undefined, signal: AbortSignal): Promise<Services> {
  const first = await listPage(environment, { limit: 1000 }, signal);
  const { configs } = first;
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

export function alerts(signal: AbortSignal): Promise<Answers["AlertsAnswer"]> {
  return request("GET", "/alerts", { signal });
}

export type AuditFilter = { service?: string | undefined; who?: string | undefined; outcome?: string | undefined };

export function audit(filter: AuditFilter, before: number | undefined, signal?: AbortSignal): Promise<Audit> {
  return request("GET", "/audit", {
    query: { ...filter, before, limit: 200 },
    ...(signal === undefined ? {} : { signal }),
  });
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

/** The last answer to who this page is, and for which token. */
let own: { token: string; answer: Promise<Whoami> } | undefined;

/** Ask who this page is, or who another token is. */
export async function whoami(signal?: AbortSignal, other?: string): Promise<Whoami> {
  const answer = request<Whoami>("GET", "/whoami", {
    ...(signal === undefined ? {} : { signal }),
    ...(other === undefined ? {} : { token: other }),
  });
  if (other === undefined) own = { token: token.peek(), answer };
  return answer;
}

/** Return the environments; for those who may read only some services, no more than their names. */
export async function environments(signal: AbortSignal): Promise<Environments> {
  const known = own?.token === token.peek() ? await own.answer.catch(() => undefined) : undefined;
  const who = known ?? (await whoami(signal));
  // They would be refused the rest, and each refusal stands in the audit log.
  if (who.read === "all") return request("GET", "/environments", { signal });
  const named = who.environments.map((item) => ({ ...item, files: [], services: [], problems: [] }));
  return { status: "success", request_id: null, active: who.environment, environments: named };
}

export function configuration(
  service: string,
  environment: string | undefined,
  signal: AbortSignal,
): Promise<Answers["ConfigAnswer"]> {
  return request("GET", configPath(service), { query: { environment }, signal });
}

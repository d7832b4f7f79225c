/** The requests of the screens, by what they show. */

import { type Answers, configPath, request } from "./client.ts";

export type Service = Answers["ListItem"];
export type Services = { configs: Service[]; refused_edits: Answers["RefusedEdit"][] };
export type Health = Answers["HealthAnswer"];
export type Environments = Answers["EnvironmentsAnswer"];

/** Return all services of an environment, page by page. */
export async function services(environment: string | undefined, signal: AbortSignal): Promise<Services> {
  const configs: Service[] = [];
  let after: string | undefined;
  for (;;) {
    const page = await request<Answers["ListAnswer"]>("GET", "/configs", {
      query: { environment, after, limit: 1000 },
      signal,
    });
    configs.push(...page.configs);
    if (page.next === null) return { configs, refused_edits: page.refused_edits ?? [] };
    after = page.next;
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

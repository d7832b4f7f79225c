/** The requests of the screen of one service. */

import { type Answers, configPath, RequestError, request } from "../api/client.ts";
import type { Json, JsonObject } from "../api/json.ts";
import { put, tokens } from "../form/pointer.ts";
import type { Base } from "./revisions.ts";

export type Explained = Answers["ExplainAnswer"];
type RefusedEdit = Answers["RefusedEdit"];

/** The configuration of a service, or what its files say while that is not valid. */
export interface Configuration extends Base {
  environment: string;
  version: string;
  last_updated: number | undefined;
  refused_edits: RefusedEdit[];
  /** Why there is no revision yet, and which values it needs; both are empty if there is one. */
  problems: Answers["Problem"][];
  missing: string[];
}

/**
 * Return the configuration of a service.
 *
 * @param environment The environment; the active one if it is undefined.
 * @throws RequestError `not_found` if there is no such service.
 */
export async function configurationOf(
  service: string,
  environment: string | undefined,
  signal: AbortSignal,
  atLeast?: number,
): Promise<Configuration> {
  try {
    const query = { environment, ...(atLeast === undefined ? {} : { at_least: atLeast }) };
    const answer = await request<Answers["ConfigAnswer"]>("GET", configPath(service), { query, signal });
    const { revision, epoch, version, last_updated, refused_edits = [] } = answer;
    return {
      config: answer.config as JsonObject,
      environment: answer.environment,
      revision,
      epoch,
      version,
      last_updated,
      refused_edits,
      problems: [],
      missing: [],
    };
  } catch (error) {
    if (!(error instanceof RequestError) || error.code !== "not_found") throw error;
    const files = await explainOf(service, environment, signal).catch(() => undefined);
    if (files === undefined || Object.keys(files.values).length === 0) throw error;
    return {
      config: composed(files),
      environment: files.environment,
      revision: 0,
      epoch: 0,
      version: "",
      last_updated: undefined,
      refused_edits: [],
      problems: files.problems ?? [],
      missing: files.missing ?? [],
    };
  }
}

/** Return what the layers make of a configuration. */
function composed({ values }: Explained): JsonObject {
  let config: Json = {};
  for (const [pointer, { value }] of Object.entries(values)) {
    config = put(config, tokens(pointer), value as Json) ?? config;
  }
  return config as JsonObject;
}

export function explainOf(service: string, environment: string | undefined, signal: AbortSignal): Promise<Explained> {
  return request("GET", configPath(service, "explain"), { query: { environment }, signal });
}

/** Return the JSON Schema of a service; an empty one if it has none. */
export async function schemaOf(
  service: string,
  environment: string | undefined,
  signal: AbortSignal,
): Promise<JsonObject> {
  try {
    const answer = await request<Answers["SchemaAnswer"]>("GET", `/config/schema/${encodeURIComponent(service)}`, {
      query: { environment },
      signal,
    });
    return answer.schema as JsonObject;
  } catch (error) {
    if (error instanceof RequestError && error.code === "not_found") return {};
    throw error;
  }
}

/** What the list of services says of one. */
export interface Status extends Partial<Answers["ServiceStatus"]> {
  /** Whether this caller may change it; undefined if the daemon does not say. */
  mayWrite: boolean | undefined;
  active: boolean;
  protected: boolean;
}

export async function statusOf(service: string, environment: string | undefined, signal: AbortSignal): Promise<Status> {
  // Of all names with this prefix the name itself comes first.
  const query = { environment, prefix: service, limit: 1, include: "status" };
  const page = await request<Answers["ListAnswer"]>("GET", "/configs", { query, signal });
  const found = page.configs.find((item) => item.service === service)?.status;
  const invalid = page.invalid?.find((item) => item.service === service);
  return {
    ...found,
    mayWrite: found === undefined ? invalid?.may_write : (found.may_write ?? false),
    active: page.active ?? environment === undefined,
    protected: page.protected ?? false,
  };
}

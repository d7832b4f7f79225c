/** The table of the screens: which route shows which, and what the navigation lists. */

import type { ComponentType } from "preact";
import type { Route } from "./router.ts";
import { Services } from "./screens/services.tsx";

export interface ScreenProps {
  route: Route;
  /** The name in the route, such as that of a service; "" if the route has none. */
  name: string;
}

export type Screen = ComponentType<ScreenProps>;

export interface Row {
  /** The segments of the route; `*` is a name. */
  path: readonly string[];
  /** The screen; or how to load it: one that is not needed at the start is a file of its own. */
  screen?: Screen;
  load?: () => Promise<Screen>;
}

export const SCREENS: readonly Row[] = [
  { path: ["services"], screen: Services },
  { path: ["new-service"], load: () => import("./screens/new_service.tsx").then((file) => file.NewService) },
  { path: ["services", "*"], load: () => import("./screens/service.tsx").then((file) => file.Service) },
  { path: ["compare"], load: () => import("./screens/compare.tsx").then((file) => file.CompareScreen) },
  { path: ["environments"], load: () => import("./screens/environments.tsx").then((file) => file.Environments) },
  {
    path: ["environments", "*"],
    load: () => import("./screens/environment.tsx").then((file) => file.EnvironmentScreen),
  },
  { path: ["instances"], load: () => import("./screens/instances.tsx").then((file) => file.InstancesScreen) },
  { path: ["drift"], load: () => import("./screens/drift.tsx").then((file) => file.DriftScreen) },
  { path: ["audit"], load: () => import("./screens/audit.tsx").then((file) => file.AuditScreen) },
  { path: ["tokens"], load: () => import("./screens/tokens.tsx").then((file) => file.TokensScreen) },
  { path: ["health"], load: () => import("./screens/health.tsx").then((file) => file.HealthScreen) },
];

export interface Place {
  title: string;
  path: readonly string[];
  /** Whether only administrators can use it. */
  admin?: boolean;
  /** Whether only those can use it who may read every service. */
  all?: boolean;
}

/** What the navigation lists, in this order. */
export const PLACES: readonly Place[] = [
  { title: "Services", path: ["services"] },
  { title: "Compare", path: ["compare"] },
  { title: "Environments", path: ["environments"], all: true },
  { title: "Instances", path: ["instances"] },
  { title: "Drift and alerts", path: ["drift"] },
  { title: "Audit", path: ["audit"], admin: true },
  { title: "Tokens", path: ["tokens"], admin: true },
  { title: "Health", path: ["health"] },
];

/** Return the row of a route and the name in it; undefined if no screen has the route. */
export function findScreen(route: Route): { row: Row; name: string } | undefined {
  const path = route.path.length === 0 ? ["services"] : route.path;
  for (const row of SCREENS) {
    if (row.path.length !== path.length) continue;
    if (row.path.every((segment, index) => segment === "*" || segment === path[index])) {
      return { row, name: path[row.path.indexOf("*")] ?? "" };
    }
  }
  return undefined;
}

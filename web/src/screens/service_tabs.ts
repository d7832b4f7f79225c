/** The tabs of the screen of one service that other files have. */

import type { ComponentType } from "preact";

export interface TabProps {
  service: string;
  /** The name of the environment, also where it is the active one. */
  env: string;
}

export interface Tab {
  title: string;
  load: () => Promise<ComponentType<TabProps>>;
}

/** By the value of `tab` in the address, with which `tabOf` asks: anything may stand there. */
export const TABS: Readonly<Record<string, Tab>> = {
  history: { title: "History", load: () => import("./history.tsx").then((file) => file.HistoryTab) },
  compare: { title: "Compare", load: () => import("./compare.tsx").then((file) => file.CompareTab) },
  instances: { title: "Instances", load: () => import("./instances.tsx").then((file) => file.InstancesTab) },
};

/** Return the tab that an address names; undefined if it names none of these. */
export function tabOf(name: string | undefined): Tab | undefined {
  return name !== undefined && Object.hasOwn(TABS, name) ? TABS[name] : undefined;
}

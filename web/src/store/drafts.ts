/**
 * Which services have drafts: edits that were not sent, kept in the browser's storage.
 *
 * Each tab keeps drafts of its own, so that two tabs with the same service do not overwrite each other's.
 */

import { computed, signal } from "@preact/signals";
import { remember, remembered, rememberedNames } from "../memory.ts";

/** Where a draft is kept. */
export interface DraftPlace {
  service: string;
  environment: string;
  tab: string;
}

const PREFIX = "draft/";
const version = signal(0);

/** Note that drafts may have changed. */
function changed(): void {
  version.value += 1;
}

function draftName({ environment, service, tab }: DraftPlace): string {
  return `${PREFIX}${[environment, service, tab].map(encodeURIComponent).join("/")}`;
}

/** Return what the name of a draft consists of; nothing if another program of this origin gave it. */
function partsOf(name: string): string[] {
  try {
    return name.slice(PREFIX.length).split("/").map(decodeURIComponent);
  } catch {
    return [];
  }
}

function places(): DraftPlace[] {
  return rememberedNames(PREFIX).flatMap((name) => {
    const [environment, service, tab] = partsOf(name);
    return environment === undefined || service === undefined || tab === undefined
      ? []
      : [{ environment, service, tab }];
  });
}

/** Keep the text of a draft; returns whether the browser did. */
export function keepDraftText(place: DraftPlace, text: string): boolean {
  const kept = remember(draftName(place), text);
  changed();
  return kept;
}

export function dropDraft(place: DraftPlace): void {
  remember(draftName(place), undefined);
  changed();
}

export function draftText(place: DraftPlace): string | undefined {
  return remembered(draftName(place));
}

/** Return the tabs that keep a draft of a service. */
export function tabsWithDraft(service: string, environment: string): string[] {
  return places().flatMap((place) =>
    place.service === service && place.environment === environment ? [place.tab] : [],
  );
}

const services = computed(() => {
  version.value;
  return new Set(places().map(({ environment, service }) => `${environment}/${service}`));
});

/**
 * Return "<environment>/<service>" of the services that have edits which were not sent, in this tab or another one.
 *
 * A component that calls it is rendered again when they change.
 */
export function draftsOf(): ReadonlySet<string> {
  return services.value;
}

// Another tab kept or dropped one.
globalThis.addEventListener?.("storage", changed);

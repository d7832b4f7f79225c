/** What the daemon's answers say of changed places, as `Differences` shows it. Secrets are `***` everywhere. */

import type { Answers, Problem } from "../api/client.ts";
import { format, type Json, type JsonObject } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { changeOf, type ValueChanges } from "../edit/write_changes.ts";
import { leaves } from "../form/changes.ts";
import { isWithin, put, tokens } from "../form/pointer.ts";
import type { Change } from "../ui/differences.tsx";
import { counted } from "../ui/words.ts";

/** Return the differences of a comparison, leaf by leaf, in the order of their places. */
export function comparedChanges(answer: Answers["CompareAnswer"]): Change[] {
  const hidden = answer.hidden ?? [];
  // A secret is written as a word there; the list of the hidden places says which words are meant.
  const masked = (place: string, value: Json): Json => {
    let result: Json = value;
    for (const pointer of hidden) {
      if (isWithin(pointer, place)) result = put(result, tokens(pointer.slice(place.length)), MASK) ?? result;
    }
    return result;
  };
  const changes: Change[] = [];
  for (const [pointer, sides] of Object.entries(answer.changed)) {
    changes.push({
      pointer,
      old: masked(pointer, sides.env1 as Json),
      new: masked(pointer, sides.env2 as Json),
    });
  }
  const onlyIn = (side: "old" | "new", members: object) => {
    for (const [pointer, value] of Object.entries(members as JsonObject)) {
      for (const [place, leaf] of leaves(masked(pointer, value), pointer)) {
        changes.push(side === "old" ? { pointer: place, old: leaf } : { pointer: place, new: leaf });
      }
    }
  };
  onlyIn("old", answer.only_in_env1);
  onlyIn("new", answer.only_in_env2);
  return changes.sort(byPlace);
}

function byPlace(one: Change, other: Change): number {
  return one.pointer < other.pointer ? -1 : one.pointer > other.pointer ? 1 : 0;
}

/** Return the changes whose place or one of whose values contains a text, whatever its case. */
export function matching(changes: readonly Change[], search: string): readonly Change[] {
  const wanted = search.trim().toLowerCase();
  if (wanted === "") return changes;
  return changes.filter((one) =>
    [one.pointer, format(one.old), format(one.new)].some((text) => text.toLowerCase().includes(wanted)),
  );
}

/** A change that many services have in common. */
export interface Shared {
  change: Change;
  services: string[];
}

export interface ServiceChanges {
  service: string;
  /** What the service does not have in common with most others. */
  changes: Change[];
  /** How many places it has altogether. */
  count: number;
  /** How many of them the answer leaves out, because there are so many or they are so long. */
  leftOut: number;
}

export interface HomeChanges {
  shared: Shared[];
  services: ServiceChanges[];
  places: number;
}

const FEWEST_SHARING = 3;

/**
 * Return the changes of several services; what most of them have in common is listed once.
 *
 * @param changes By service, the sides by place.
 * @param leftOut By service, how many places are not in `changes`.
 */
export function homeChanges(changes: Record<string, ValueChanges>, leftOut: Record<string, number> = {}): HomeChanges {
  const names = [...new Set([...Object.keys(changes), ...Object.keys(leftOut)])].sort();
  const found = new Map(
    names.map((name) => [name, Object.entries(changes[name] ?? {}).map(([at, sides]) => changeOf(at, sides))]),
  );
  const alike = new Map<string, Shared>();
  for (const [service, places] of found) {
    for (const place of places) {
      const key = `${place.pointer}\n${format(place.old)}\n${format(place.new)}`;
      const group = alike.get(key);
      if (group === undefined) alike.set(key, { change: place, services: [service] });
      else group.services.push(service);
    }
  }
  const least = Math.max(FEWEST_SHARING, Math.floor(names.length / 2) + 1);
  const shared = [...alike.values()].filter(({ services }) => services.length >= least);
  // Every place of `shared` is the first of its kind; the others of its kind are equal to it.
  const common = new Set(
    shared.flatMap(({ change: { pointer }, services }) => services.map((name) => `${name}${pointer}`)),
  );
  const services = names.map((service) => {
    const all = found.get(service) ?? [];
    const left = leftOut[service] ?? 0;
    return {
      service,
      changes: all.filter(({ pointer }) => !common.has(`${service}${pointer}`)),
      count: all.length + left,
      leftOut: left,
    };
  });
  return { shared, services, places: services.reduce((sum, { count }) => sum + count, 0) };
}

export interface FileProblem {
  /** The lines of the file; none if the message names none. */
  lines: number[];
  message: string;
}

/** The problems of a file; `file` is "" for those that name none. */
export interface FileProblems {
  file: string;
  count: number;
  problems: FileProblem[];
}

/** A problem without the place with which its message begins. */
interface Placed {
  line: number | undefined;
  service: string | undefined;
  message: string;
}

/** Return problems by file and line. What several services have in common is listed once. */
export function byFile(problems: readonly Problem[]): FileProblems[] {
  const files = new Map<string, Placed[]>();
  for (const { pointer, message, file = "", line, service } of problems) {
    const found = files.get(file) ?? [];
    files.set(file, found);
    const text = without(message, `${file}${line === undefined ? "" : `:${line}`}: `);
    const place = file === "" && pointer !== "" && !message.includes(pointer) ? `${pointer}: ` : "";
    found.push({ line, service, message: place + text });
  }
  return [...files]
    .map(([file, found]) => ({ file, count: found.length, problems: alike(found) }))
    .sort((one, other) => (one.file < other.file ? -1 : 1));
}

function without(message: string, beginning: string): string {
  return message.startsWith(beginning) ? message.slice(beginning.length) : message;
}

function alike(problems: readonly Placed[]): FileProblem[] {
  const groups = new Map<string, { lines: number[]; services: Set<string>; messages: string[] }>();
  for (const { line, service, message } of [...problems].sort((one, other) => (one.line ?? 0) - (other.line ?? 0))) {
    const common = without(message, `${service} `);
    const group = groups.get(common) ?? { lines: [], services: new Set<string>(), messages: [] };
    groups.set(common, group);
    if (line !== undefined) group.lines.push(line);
    if (service !== undefined) group.services.add(service);
    group.messages.push(message);
  }
  return [...groups].flatMap(([common, { lines, services, messages }]) =>
    services.size >= FEWEST_SHARING
      ? [{ lines: [...new Set(lines)], message: `${services.size} services: ${common}` }]
      : messages.map((message, index) => ({ lines: lines.slice(index, index + 1), message })),
  );
}

type ChangedServices = Pick<Answers["ActivateAnswer"], "changed"> &
  Partial<Pick<Answers["ActivateAnswer"], "added" | "removed">>;

/** Return the services that have another configuration afterwards, without those that are new or have none any more. */
export function reconfigured({ changed, added = [], removed = [] }: ChangedServices): string[] {
  return changed.filter((name) => !added.includes(name) && !removed.includes(name));
}

/** Return what activating an environment does, in one line: "Activate staging: 14 services change, 3 need a restart". */
export function activationTitle(
  answer: ChangedServices & Pick<Answers["ActivateAnswer"], "environment" | "restart_required">,
): string {
  const { added = [], removed = [], restart_required: restart } = answer;
  const parts = [counted(reconfigured(answer).length, "service changes", "services change")];
  if (added.length > 0) parts.push(`${added.length} new`);
  if (removed.length > 0) parts.push(`${removed.length} without a configuration afterwards`);
  parts.push(
    restart.length === 0 ? "none needs a restart" : counted(restart.length, "needs a restart", "need a restart"),
  );
  return `Activate ${answer.environment}: ${parts.join(", ")}`;
}

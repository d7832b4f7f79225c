/** The history of a service: its revisions, what each changed, and the way back to one. */

import { signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import type { JsonObject } from "../api/json.ts";
import { MASK } from "../api/masks.ts";
import { changeQuery, href, route } from "../router.ts";
import { type Loaded, useResource } from "../store/resources.ts";
import { mayWrite, useWhoami } from "../store/whoami.ts";
import { useDeferred } from "../ui/deferred.ts";
import { type Change, Differences, DocumentDifferences } from "../ui/differences.tsx";
import { Done } from "../ui/done.tsx";
import { Await, Field, Notice, Tag, Time } from "../ui/elements.tsx";
import { ACTIONS, ListTable } from "../ui/list_table.tsx";
import { PlaceName } from "../ui/place_name.tsx";
import { counted } from "../ui/words.ts";
import { comparedChanges } from "./changes.ts";
import { compare, document, type History, history, positive, type Revision } from "./history_queries.ts";
import { Rollback } from "./rollback.tsx";

const PAGE = 50;

export interface HistoryProps {
  service: string;
  env: string;
}

/** What was done last, and of which revision that is said. The screen around changes when a deleted service is back. */
const done = signal<{ of: string; message: string } | undefined>(undefined);

/** Whether the address still shows the way back to a revision of a configuration. */
function isReviewed(service: string, env: string, back: number): boolean {
  const { path, query } = route.peek();
  return path[1] === service && (query.env ?? env) === env && positive(query.back) === back;
}

/**
 * The revisions, newest first. In the address: `rev`, the one whose differences are shown, `against`, the other side of
 * them, `whole`, `count`, how many revisions are listed, and `back`, the one that a rollback would restore.
 */
export function HistoryTab({ service, env }: HistoryProps) {
  const query = route.value.query;
  const count = positive(query.count) ?? PAGE;
  const loaded = kept(
    useResource(`history ${env} ${service} ${count}`, (signal) => history(service, env, count, signal), [
      `change:${service}`,
    ]),
    `${env} ${service}`,
    useRef<Kept>(undefined),
  );
  const of = `${env} ${service} ${query.rev ?? ""}`;
  const back = positive(query.back);
  return (
    <Await of={loaded}>
      {(data) =>
        back !== undefined ? (
          <Rollback
            key={`${env} ${service} ${back}`}
            service={service}
            env={env}
            to={back}
            newest={data.revisions[0]}
            target={data.revisions.find(({ revision }) => revision === back)}
            onDone={(message, revision) => {
              done.value = { of: `${env} ${service} ${revision}`, message };
              // Nobody is taken away from where they went meanwhile.
              if (isReviewed(service, env, back))
                changeQuery({ back: undefined, rev: revision, against: undefined, whole: undefined });
            }}
          />
        ) : (
          <>
            {done.value?.of === of && (
              <Done
                message={done.value.message}
                onClose={() => {
                  done.value = undefined;
                }}
              />
            )}
            <Revisions service={service} env={env} data={data} />
          </>
        )
      }
    </Await>
  );
}

type Kept = { of: string; data: History } | undefined;

/** Keep what was shown of a configuration while a longer list of it is loaded. */
function kept(loaded: Loaded<History>, of: string, last: { current: Kept }): Loaded<History> {
  if (loaded.data !== undefined) last.current = { of, data: loaded.data };
  return loaded.data === undefined && last.current?.of === of ? { ...loaded, data: last.current.data } : loaded;
}

function Revisions({ service, env, data }: HistoryProps & { data: History }) {
  const { revisions, more } = data;
  const shown = useDeferred(revisions.length);
  const open = positive(route.value.query.rev);
  const writable = mayWrite(useWhoami());
  return (
    <>
      <p class="muted">
        {counted(revisions.length, "revision")}
        {more ? ", the newest ones; there are older ones." : "."}
      </p>
      <ListTable
        caption="The revisions, newest first"
        columns={["Revision", "Time", "By", "Comment", "Changed places", ACTIONS]}
        kind="history"
      >
        {revisions.slice(0, shown).map((item, index) => (
          <Row
            key={item.revision}
            item={item}
            newest={index === 0}
            service={service}
            env={env}
            revisions={revisions}
            open={item.revision === open}
            writable={writable}
          />
        ))}
      </ListTable>
      {open !== undefined && !revisions.some(({ revision }) => revision === open) && (
        <Notice tone="warning" title={`Revision ${open} is not among these revisions.`}>
          {more ? " It may be an older one." : " It does not exist, or is not kept any more."}
        </Notice>
      )}
      {more && (
        <div class="buttons">
          <button type="button" onClick={() => changeQuery({ count: revisions.length + PAGE })}>
            Older revisions
          </button>
        </div>
      )}
    </>
  );
}

const CAUSES: Record<Revision["cause"], string> = {
  activation: "activation of the environment",
  api: "change at run time",
  file: "edit of files",
  migration: "migration",
  registration: "registration",
  restore: "restore of a backup",
  rollback: "rollback",
};

interface RowProps extends HistoryProps {
  item: Revision;
  newest: boolean;
  revisions: readonly Revision[];
  open: boolean;
  /** Whether the caller may go back to it. */
  writable: boolean;
}

function Row({ item, newest, service, env, revisions, open, writable }: RowProps) {
  const { revision } = item;
  return (
    <>
      <tr>
        <th scope="row">
          <span class="whole">Revision {revision}</span> {newest && <Tag tone="info">current</Tag>}
          <small class="muted block">version {item.version}</small>
        </th>
        <td data-label="Time">
          <Time seconds={item.timestamp} />
        </td>
        <td data-label="By">
          {item.author}
          <small class="muted block">{CAUSES[item.cause] ?? item.cause}</small>
        </td>
        <td data-label="Comment">{item.comment || <span class="muted nothing">none</span>}</td>
        <td data-label="Changed places">
          <Places item={item} />
        </td>
        <td class="actions">
          <button
            type="button"
            aria-expanded={open}
            onClick={() =>
              changeQuery(
                { rev: open ? undefined : revision, against: undefined, whole: undefined },
                { replace: false },
              )
            }
          >
            Differences<span class="visually-hidden"> of revision {revision}</span>
          </button>
          {writable && !newest && !item.deleted && (
            <a
              class="button"
              href={href(route.value.path, {
                ...route.value.query,
                back: revision,
                rev: undefined,
                against: undefined,
              })}
            >
              Restore …<span class="visually-hidden"> the values of revision {revision}</span>
            </a>
          )}
        </td>
      </tr>
      {open && (
        <tr class="detail">
          <td colSpan={6}>
            <Detail item={item} service={service} env={env} revisions={revisions} />
          </td>
        </tr>
      )}
    </>
  );
}

const FEW = 3;

function Places({ item }: { item: Revision }) {
  if (item.deleted) return <Tag tone="bad">deleted</Tag>;
  const { changed } = item;
  return (
    <>
      {changed.slice(0, FEW).map((pointer) => (
        <PlaceName key={pointer} block of={pointer || "the whole configuration"} />
      ))}
      {changed.length > FEW && <small class="muted block">and {changed.length - FEW} more</small>}
      {changed.length === 0 && <span class="muted">none</span>}
      {item.breaking && <Tag tone="warning">breaking</Tag>}{" "}
      {item.restart_required.length > 0 && <Tag tone="warning">restart needed</Tag>}
    </>
  );
}

/** The differences between a revision and another one. */
function Detail({ item, service, env, revisions }: Omit<RowProps, "newest" | "open" | "writable">) {
  const { against, whole } = route.value.query;
  const older = revisions.find(({ revision, deleted }) => revision < item.revision && !deleted);
  const other = positive(against) ?? older?.revision ?? (item.revision > 1 ? item.revision - 1 : undefined);
  if (item.deleted) {
    return (
      <p>
        The configuration was deleted here.{" "}
        {older !== undefined && <>Its last values are those of revision {older.revision}.</>}
      </p>
    );
  }
  return (
    <>
      <div class="filters">
        <Field label={`Compare revision ${item.revision} with`}>
          {({ id }) => (
            <select
              id={id}
              value={String(other ?? "")}
              onChange={(event) => changeQuery({ against: event.currentTarget.value })}
            >
              {other === undefined && <option value="">nothing: it is the first one</option>}
              {other !== undefined && !revisions.some(({ revision }) => revision === other) && (
                <option value={String(other)}>revision {other}</option>
              )}
              {revisions
                .filter(({ revision, deleted }) => revision !== item.revision && !deleted)
                .map(({ revision, comment }) => (
                  <option key={revision} value={String(revision)}>
                    revision {revision}
                    {comment ? `: ${comment.slice(0, 40)}` : ""}
                  </option>
                ))}
            </select>
          )}
        </Field>
        <label class="toggle">
          <input
            type="checkbox"
            checked={whole === "1"}
            onChange={(event) => changeQuery({ whole: event.currentTarget.checked ? "1" : undefined })}
          />
          Whole configuration
        </label>
      </div>
      {other === undefined || whole === "1" ? (
        <Whole service={service} env={env} old={other} next={item.revision} />
      ) : (
        <Compared service={service} env={env} old={other} item={item} revisions={revisions} />
      )}
    </>
  );
}

interface ComparedProps extends HistoryProps {
  old: number;
  item: Revision;
  revisions: readonly Revision[];
}

function Compared({ service, env, old, item, revisions }: ComparedProps) {
  const sides = { env1: env, env2: env, rev1: old, rev2: item.revision };
  const found = useResource(
    `compare ${service} ${JSON.stringify(sides)}`,
    (signal) => compare(service, sides, signal),
    [],
  );
  return (
    <Await of={found}>
      {(answer) => {
        const written = writtenSecrets(answer.secrets, old, item.revision, revisions);
        // Of two neighbours, what was written differs; of others, it may be what it was.
        const neighbours = Math.abs(item.revision - old) === 1;
        return (
          <>
            <p class="muted">
              <span class="sign">−</span> revision {old}, <span class="sign">+</span> revision {item.revision}
            </p>
            <Differences
              changes={[
                ...comparedChanges(answer),
                ...(neighbours ? written : []).map((pointer): Change => ({ pointer, old: MASK, new: MASK })),
              ]}
              old={`revision ${old}`}
              new={`revision ${item.revision}`}
              restart={old === item.revision - 1 ? item.restart_required : []}
              empty={`Revisions ${old} and ${item.revision} have the same values.`}
            />
            {answer.secrets.length > 0 && (
              <p class="muted">
                {counted(answer.secrets.length, "secret is", "secrets are")} in both.{" "}
                {!neighbours && written.length > 0 && `${written.length} of them were written in between. `}
                Only administrators learn whether two secrets are equal.
              </p>
            )}
          </>
        );
      }}
    </Await>
  );
}

/** Return the secrets of both revisions that were written between them: the history says so, to every reader. */
function writtenSecrets(
  secrets: readonly string[],
  old: number,
  next: number,
  revisions: readonly Revision[],
): string[] {
  const [low, high] = old < next ? [old, next] : [next, old];
  const between = revisions.filter(({ revision }) => low < revision && revision <= high);
  const written = new Set(between.flatMap(({ changed }) => changed));
  // The end of a configuration is a change of the place "".
  return secrets.filter((pointer) => written.has(pointer) || written.has(""));
}

function Whole({ service, env, old, next }: HistoryProps & { old: number | undefined; next: number }) {
  const documents = useResource(
    `documents ${env} ${service} ${old ?? ""} ${next}`,
    async (signal) => {
      const [before, after] = await Promise.all([
        old === undefined ? undefined : document(service, env, old, signal),
        document(service, env, next, signal),
      ]);
      return { before: before?.config as JsonObject | undefined, after: after.config as JsonObject };
    },
    [],
  );
  return (
    <Await of={documents}>
      {({ before, after }) => (
        <DocumentDifferences
          old={before ?? after}
          next={after}
          names={{ old: `revision ${old}`, new: `revision ${next}` }}
        />
      )}
    </Await>
  );
}

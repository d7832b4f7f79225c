/** The audit log: every change, every refused request, every secret that was delivered in plain text. */

import { useEffect, useRef, useState } from "preact/hooks";
import { failure, type RequestError } from "../api/client.ts";
import { type Audit, type Audited, type AuditFilter, audit } from "../api/queries.ts";
import { changeQuery, href, route } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { AdminOnly } from "../ui/admin_only.tsx";
import { useDeferred } from "../ui/deferred.ts";
import {
  Announcement,
  Await,
  ErrorSummary,
  Field,
  Heading,
  moment,
  Notice,
  Tag,
  Time,
  type Tone,
} from "../ui/elements.tsx";
import { ListTable } from "../ui/list_table.tsx";
import { Separated } from "../ui/place_name.tsx";
import { VERBATIM } from "../ui/verbatim.ts";
import { counted } from "../ui/words.ts";
import { positive } from "./history_queries.ts";

const OUTCOMES: Record<Audited["outcome"], { tone: Tone; text: string }> = {
  done: { tone: "good", text: "done" },
  refused: { tone: "bad", text: "refused" },
  secrets_delivered: { tone: "warning", text: "secrets delivered" },
  secrets_tried: { tone: "warning", text: "secrets tried" },
};

/** So many empty pages are passed over at once. */
const MOST_EMPTY = 20;
/** So many pages of older entries are loaded with a page that is loaded again; further ones on demand. */
const MOST_AGAIN = 50;
/** So many older entries are kept when newer ones take the first page. */
const MOST_KEPT = 10_000;

/** The newest entries; in the address lie what is searched for, and `older`, how many pages of older ones are shown. */
export function AuditScreen({ route }: ScreenProps) {
  return (
    <>
      <Heading title="Audit" />
      <AdminOnly otherwise={<Notice title="Only administrators read the audit log." />}>
        <Log query={route.query} />
      </AdminOnly>
    </>
  );
}

function Log({ query: { service, who, outcome } }: { query: AuditFilter }) {
  const filter: AuditFilter = { service, who, outcome };
  const key = JSON.stringify(filter);
  const newest = useResource(`audit ${key}`, (signal) => audit(filter, undefined, signal), ["audit"]);
  return (
    <>
      <search class="filters">
        <Filter label="Service" name="service" value={service ?? ""} hint="its whole name" />
        <Filter label="Caller" name="who" value={who ?? ""} hint="its whole name" />
        <Field label="Outcome">
          {({ id }) => (
            <select
              id={id}
              value={outcome ?? ""}
              onChange={(event) => changeQuery({ outcome: event.currentTarget.value, older: undefined })}
            >
              <option value="">all</option>
              {Object.entries(OUTCOMES).map(([name, { text }]) => (
                <option key={name} value={name}>
                  {text}
                </option>
              ))}
            </select>
          )}
        </Field>
      </search>
      <Await of={newest}>
        {(data) => <Entries key={key} newest={data.entries} next={data.next} filter={filter} />}
      </Await>
    </>
  );
}

/** A text that counts when it is complete: with Enter, or when the field is left. */
function Filter({ label, name, value, hint }: { label: string; name: string; value: string; hint: string }) {
  const input = useRef<HTMLInputElement>(null);
  // Back, or a link: the address says something else. The field stays the same one, and keeps the focus.
  useEffect(() => {
    if (input.current !== null && input.current.value.trim() !== value) input.current.value = value;
  }, [value]);
  return (
    <Field label={label}>
      {({ id }) => (
        <input
          id={id}
          ref={input}
          type="search"
          defaultValue={value}
          placeholder={hint}
          autoComplete="off"
          {...VERBATIM}
          onChange={(event) => changeQuery({ [name]: event.currentTarget.value.trim(), older: undefined })}
        />
      )}
    </Field>
  );
}

interface EntriesProps {
  newest: Audited[];
  next: number | null;
  filter: AuditFilter;
}

interface Older {
  entries: Audited[];
  /** Before which place there may be more; null if there are none. */
  next: number | null;
}

function Entries({ newest, next, filter }: EntriesProps) {
  // The first page is loaded again with each new entry; what was loaded of the pages after it stays.
  const [older, setOlder] = useState<Older>({ entries: [], next });
  const [error, setError] = useState<RequestError>();
  const [loading, setLoading] = useState(false);
  const before = useRef<Audited[]>(newest);
  // How many pages of older entries are shown, or about to be.
  const pages = useRef(0);
  useEffect(() => {
    const shown = before.current;
    before.current = newest;
    const last = newest.at(-1)?.sequence ?? 0;
    // More came than a page has: between the two there is a gap, so what was loaded is dropped.
    if ((shown[0]?.sequence ?? last) < last) changeQuery({ older: undefined });
    if ((shown[0]?.sequence ?? last) < last || pages.current === 0) {
      pages.current = 0;
      setOlder({ entries: [], next });
    } else setOlder((known) => shortened([...shown, ...known.entries], last, known.next));
  }, [newest]);
  async function load(count = 1) {
    const [begun, from] = [pages.current, older.next];
    pages.current += count;
    setLoading(true);
    try {
      const found: Older = { entries: [], next: from };
      let loaded = 0;
      for (; loaded < count && found.next !== null; loaded += 1) {
        const page = await olderPage(filter, found.next);
        found.entries.push(...page.entries);
        found.next = page.next;
      }
      // What was loaded before was dropped meanwhile.
      if (pages.current !== begun + count) return;
      pages.current = begun + loaded;
      setOlder((known) => ({ entries: [...known.entries, ...found.entries], next: found.next }));
      setError(undefined);
      changeQuery({ older: pages.current });
    } catch (reason) {
      pages.current = begun;
      setError(failure(reason));
    } finally {
      setLoading(false);
    }
  }
  useEffect(() => {
    const wanted = Math.min(positive(route.peek().query.older) ?? 0, MOST_AGAIN);
    if (wanted > 0) void load(wanted);
  }, []);
  const last = newest.at(-1)?.sequence ?? 0;
  const all = [...newest, ...older.entries.filter(({ sequence }) => sequence < last)];
  const shown = useDeferred(all.length);
  const oldest = all.at(-1);
  return (
    <>
      <Announcement>{counted(all.length, "entry", "entries")}</Announcement>
      {all.length === 0 ? (
        <p class="empty">
          {older.next === null ? "Nothing like that is recorded." : "Nothing like that is among the newest entries."}
        </p>
      ) : (
        <ListTable
          caption="Entries of the audit log, newest first"
          columns={["Time", "Caller", "Operation", "Outcome", "Service", "Revision"]}
        >
          {all.slice(0, shown).map((entry) => (
            <EntryRow key={entry.sequence} entry={entry} />
          ))}
        </ListTable>
      )}
      {error !== undefined && <ErrorSummary error={error} />}
      <p class="more">
        {oldest !== undefined && (
          <span class="muted">
            {counted(all.length, "entry", "entries")}, back to {moment(Number(oldest.timestamp))}
            {older.next === null && ": the whole log"}.
          </span>
        )}{" "}
        {older.next !== null && (
          <button type="button" disabled={loading} onClick={() => void load()}>
            {loading ? "Loading …" : "Load older entries"}
          </button>
        )}
      </p>
    </>
  );
}

/** Return the entries before a place, of many the newest ones; `next` is the place after them, as far as it is known. */
function shortened(entries: Audited[], last: number, next: number | null): Older {
  const kept = entries.filter(({ sequence }) => sequence < last);
  return kept.length <= MOST_KEPT
    ? { entries: kept, next }
    : { entries: kept.slice(0, MOST_KEPT), next: kept[MOST_KEPT - 1]?.sequence ?? next };
}

/** Load the entries before a place; a page of which no entry is meant may be empty. */
async function olderPage(filter: AuditFilter, before: number): Promise<Audit> {
  let page = await audit(filter, before);
  for (let more = 0; page.entries.length === 0 && page.next !== null && more < MOST_EMPTY; more += 1)
    page = await audit(filter, page.next);
  return page;
}

function EntryRow({ entry }: { entry: Audited }) {
  const { tone, text } = OUTCOMES[entry.outcome] ?? { tone: "neutral", text: entry.outcome };
  const env = entry.environment ?? undefined;
  return (
    <tr>
      <td data-label="Time">
        <span class="whole">{moment(Number(entry.timestamp))}</span>{" "}
        <span class="muted whole">
          (<Time seconds={entry.timestamp} />)
        </span>
      </td>
      <td data-label="Caller">
        {entry.who} <span class="muted">{entry.where !== entry.who && `over ${entry.where}`}</span>
      </td>
      <td data-label="Operation">
        <span class="word">{entry.operation}</span>
        {(entry.count ?? 1) > 1 && <span class="muted"> ({entry.count} times)</span>}
      </td>
      <td data-label="Outcome">
        <Tag tone={tone}>{text}</Tag>
        {entry.detail && <p class="reason">{entry.detail}</p>}
      </td>
      <td data-label="Service">
        {entry.service ? (
          <a href={href(["services", entry.service], { env })}>
            <Separated text={entry.service} />
          </a>
        ) : (
          <span class="nothing">–</span>
        )}
        {env !== undefined && <span class="muted"> in {env}</span>}
      </td>
      <td data-label="Revision">
        {entry.before === null && entry.after === null && <span class="nothing">–</span>}
        {entry.before !== null && entry.before !== undefined && <Revision entry={entry} number={entry.before} />}
        {entry.before && entry.after ? " → " : ""}
        {entry.after !== null && entry.after !== undefined && <Revision entry={entry} number={entry.after} />}
      </td>
    </tr>
  );
}

function Revision({ entry, number }: { entry: Audited; number: number }) {
  if (!entry.service) return <>{number}</>;
  const query = { env: entry.environment ?? undefined, tab: "history", rev: number };
  return <a href={href(["services", entry.service], query)}>{number}</a>;
}

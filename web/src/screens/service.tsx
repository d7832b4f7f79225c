/** The screen of one service in one environment: `#/services/NAME?env=…&tab=…`. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { Fragment } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { type RequestError, token } from "../api/client.ts";
import { isEqual, type Json, type JsonObject } from "../api/json.ts";
import { environments, health } from "../api/queries.ts";
import { reversed } from "../edit/conflicts.ts";
import type { TextFormat } from "../edit/drafts.ts";
import { DiscardDialog, EditBar } from "../edit/edit_bar.tsx";
import { Lazy } from "../edit/lazy.tsx";
import { Review } from "../edit/review.tsx";
import { type Reviewed, readReviewed, writeReviewed } from "../edit/reviewed.ts";
import {
  type Configuration,
  configurationOf,
  type Explained,
  explainOf,
  type Status,
  schemaOf,
  statusOf,
} from "../edit/service_data.ts";
import type { Session } from "../edit/session.ts";
import { sessionOf } from "../edit/sessions.ts";
import { Form, type Only } from "../form/form.tsx";
import { readSchema, type SchemaTree } from "../form/schema.ts";
import { changeQuery, enter, href, leave, type Route } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { type Loaded, useResource } from "../store/resources.ts";
import { Await, ErrorSummary, Heading, Notice } from "../ui/elements.tsx";
import { asksToken } from "../ui/token_dialog.tsx";
import { ServiceHeader } from "./service_header.tsx";
import { TABS, tabOf } from "./service_tabs.ts";

export function Service({ route, name }: ScreenProps) {
  const { env } = route.query;
  const key = `${env ?? ""} ${name}`;
  const topics = [`change:${name}`, "environment", "files"];
  const active = useRef<string>(undefined);
  // While the same environment is only named in the address, what is shown stays.
  const of = env ?? active.current;
  const config = useLast(
    useResource(`config ${key}`, (signal) => configurationOf(name, env, signal), topics),
    of,
  );
  if (env === undefined && config.data !== undefined) active.current = config.data.environment;
  const schema = useLast(
    useResource(`schema ${key}`, (signal) => schemaOf(name, env, signal), ["environment", "files"]),
    of,
  );
  const explained = useLast(
    useResource(`explain ${key}`, (signal) => explainOf(name, env, signal), topics),
    of,
  );
  const status = useLast(
    useResource(`status ${key}`, (signal) => statusOf(name, env, signal), [
      ...topics,
      `instances:${name}`,
      "online",
      "drift",
    ]),
    of,
  );
  const tree = useTree(schema.data);
  // Nothing can be typed before it is known whether it could be sent.
  const known = status.data !== undefined || status.error !== undefined;
  const parts = {
    route,
    name,
    tree: known ? tree : undefined,
    withoutSchema: tree === undefined ? schema.error : undefined,
    explained: explained.data,
    status: status.data,
  };
  const missing = config.data === undefined && config.error?.code === "not_found";
  return (
    <>
      <Heading title={name} />
      {missing && config.error !== undefined ? (
        <Absent {...parts} error={config.error} />
      ) : (
        <Await of={config}>{(data) => <Opened key={data.environment} {...parts} data={data} />}</Await>
      )}
    </>
  );
}

/** Return what was loaded last of the same thing and for the same caller, until it is loaded under another key. */
function useLast<T>(loaded: Loaded<T>, of: string | undefined): Loaded<T> {
  const last = useRef<{ of: string | undefined; token: string; data: T }>(undefined);
  const { data } = loaded;
  if (data !== undefined) last.current = { of, token: token.value, data };
  const kept = last.current;
  // What was shown of the active environment before its name was known is that of its name.
  const same = kept !== undefined && (kept.of === of || kept.of === undefined) && kept.token === token.value;
  return data === undefined && same ? { ...loaded, data: kept.data } : loaded;
}

/** Return the tree of a schema; the same one while the schema is the same. */
function useTree(schema: JsonObject | undefined): SchemaTree | undefined {
  const last = useRef<{ schema: Json; tree: SchemaTree }>(undefined);
  if (schema === undefined) return undefined;
  if (last.current === undefined || !isEqual(last.current.schema, schema)) {
    last.current = { schema, tree: readSchema(schema) };
  }
  return last.current.tree;
}

interface Parts {
  route: Route;
  name: string;
  tree: SchemaTree | undefined;
  /** Why there is no schema. */
  withoutSchema: RequestError | undefined;
  explained: Explained | undefined;
  status: Status | undefined;
}

/** A service without a configuration, of which no file says anything either: it may have been deleted, or be new. */
function Absent({ error, ...parts }: Parts & { error: RequestError }) {
  const { route, name } = parts;
  const state = useResource("health", health, ["health", "environment"]).data;
  const environment = route.query.env ?? state?.environment;
  if (environment === undefined) return <p class="loading">Loading …</p>;
  if (route.query.new !== undefined) {
    const data: Configuration = {
      config: {},
      absent: true,
      environment,
      revision: 0,
      epoch: 0,
      version: "",
      last_updated: undefined,
      refused_edits: [],
      problems: [],
      missing: [],
    };
    return <Opened key={environment} {...parts} data={data} />;
  }
  const other = tabOf(route.query.tab);
  return (
    <>
      <Tabs route={route} tab={route.query.tab ?? "form"} />
      {other !== undefined ? (
        <Lazy key={route.query.tab} load={other.load} props={{ service: name, env: environment }} />
      ) : (
        <>
          <ErrorSummary error={error} />
          <p>
            If it was deleted, the tab History has its old revisions, and restores one. If it is new:{" "}
            <a href={href(route.path, { env: environment, new: "1", tab: "raw" })}>
              Write a configuration of {name} in {environment}
            </a>
          </p>
        </>
      )}
    </>
  );
}

function Opened({ route, name, data, tree, withoutSchema, explained, status }: Parts & { data: Configuration }) {
  const session = useMemo(() => sessionOf(name, data.environment, data), [name, data.environment]);
  useEffect(() => session.receive(data), [session, data]);
  const { tab = "form", env } = route.query;
  const focus = useSignal<{ pointer: string } | undefined>(undefined);
  const readOnly = whyReadOnly(status, name);
  const known = useResource("environments", environments, ["environment", "files"]).data?.environments;
  const isProtected = status?.protected || (known?.find((each) => each.name === data.environment)?.protected ?? false);
  // The edits are those of this environment, whichever is active later.
  useSignalEffect(() => {
    if (session.isEdited && env === undefined) changeQuery({ env: data.environment });
  });

  const review = (of: Reviewed) => enter({ env: data.environment, review: writeReviewed(of) });
  const reviewed = useMemo(() => readReviewed(route.query.review ?? ""), [route.query.review]);
  // One dialog at a time; of an environment that is not named yet it is known soon.
  const dialog = asksToken.value || (env !== undefined && env !== data.environment) ? {} : route.query;
  const goTo = (pointer: string) => {
    changeQuery({ review: undefined, tab: undefined, only: undefined, filter: undefined });
    focus.value = { pointer };
  };
  const undo = () => {
    const applied = session.applied.peek();
    if (applied === undefined) return;
    if (session.base.peek().revision === applied.revision) review({ kind: "rollback", revision: applied.before });
    else {
      // Others changed something since, which stays: only the own places get their former values.
      session.edits.value = new Map([...session.edits.peek(), ...reversed(applied.changes)]);
      session.applied.value = undefined;
      review({ kind: "edits" });
    }
  };
  useShortcut(() => session.isEdited && readOnly === undefined && review({ kind: "edits" }));
  return (
    <>
      <ServiceHeader
        name={name}
        data={data}
        status={status}
        isProtected={isProtected}
        route={route}
        onReset={status?.overlay && status.mayWrite ? () => review({ kind: "unset", pointer: "" }) : undefined}
      />
      {data.revision === 0 && <NotYet data={data} name={name} onPlace={goTo} />}
      {readOnly !== undefined && <Notice title="Read only.">{` ${readOnly}`}</Notice>}
      <Tabs route={route} tab={tab} />
      {tree === undefined && withoutSchema === undefined ? (
        <p class="loading">Loading …</p>
      ) : (
        <TabContent
          tab={tab}
          session={session}
          data={data}
          tree={tree}
          withoutSchema={withoutSchema}
          explained={explained}
          readOnly={readOnly !== undefined}
          route={route}
          focus={focus.value}
          onUnset={(pointer) => review({ kind: "unset", pointer })}
        />
      )}
      <EditBar
        session={session}
        readOnly={readOnly}
        reviewing={route.query.review !== undefined}
        onReview={() => review({ kind: "edits" })}
        onUndo={undo}
        onDiscard={() => enter({ env: data.environment, discard: "1" })}
        onPlace={goTo}
      />
      {dialog.review !== undefined && (
        <Review
          session={session}
          of={reviewed}
          isProtected={isProtected}
          whole={tab === "raw"}
          onClose={() => leave("review")}
          onPlace={goTo}
        />
      )}
      {dialog.discard !== undefined && <DiscardDialog session={session} onClose={() => leave("discard")} />}
    </>
  );
}

/** Says why there is no revision yet, and what to do. */
function NotYet({ data, name, onPlace }: { data: Configuration; name: string; onPlace: (pointer: string) => void }) {
  if (data.absent) {
    return (
      <Notice title={`${name} is a new service in ${data.environment}.`}>
        <p>
          No file names it. It begins with the first configuration that you apply. Its own values go under{" "}
          <code>settings</code>.
        </p>
      </Notice>
    );
  }
  return (
    <Notice lasting tone="warning" title={`${name} has no configuration in ${data.environment} yet.`}>
      <p>What the files say of it is not valid. The first change that makes it valid gives it one.</p>
      <ul>
        {data.problems.map(({ message }) => (
          <li key={message}>{message}</li>
        ))}
      </ul>
      {data.missing.length > 0 && (
        <p>
          Missing:{" "}
          {data.missing.map((pointer, index) => (
            <Fragment key={pointer}>
              {index > 0 && ", "}
              <button type="button" class="link" onClick={() => onPlace(pointer)}>
                <code>{pointer}</code>
              </button>
            </Fragment>
          ))}
        </p>
      )}
    </Notice>
  );
}

function whyReadOnly(status: Status | undefined, name: string): string | undefined {
  if (status?.mayWrite !== false) return undefined;
  return `You may read ${name}, but not change it. To change it, enter a token that may.`;
}

/** Ctrl+S, or Cmd+S, opens the review: this page has nothing else to save. */
function useShortcut(act: () => void): void {
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.key !== "s" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
      event.preventDefault();
      if (document.querySelector("dialog[open]") === null) act();
    };
    window.addEventListener("keydown", press);
    return () => window.removeEventListener("keydown", press);
  });
}

function Tabs({ route, tab }: { route: Route; tab: string }) {
  const line = useRef<HTMLElement>(null);
  // On a phone it may be beyond the edge.
  useLayoutEffect(() => {
    const [all, current] = [line.current, line.current?.querySelector<HTMLElement>("[aria-current]")];
    if (all && current) all.scrollLeft = current.offsetLeft + current.offsetWidth - all.offsetLeft - all.clientWidth;
  }, [tab]);
  const { env, new: created } = route.query;
  const all: [string, string][] = [
    ["form", "Form"],
    ["raw", "Raw"],
    ...Object.entries(TABS).map(([name, { title }]): [string, string] => [name, title]),
  ];
  return (
    <nav class="tabs" aria-label="Views of the service" ref={line}>
      {all.map(([name, title]) => (
        <a
          key={name}
          href={href(route.path, { env, new: created, tab: name === "form" ? undefined : name })}
          {...(name === tab ? { "aria-current": "page" } : {})}
        >
          {title}
        </a>
      ))}
    </nav>
  );
}

interface TabContentProps {
  tab: string;
  session: Session;
  data: Configuration;
  tree: SchemaTree | undefined;
  withoutSchema: RequestError | undefined;
  explained: Explained | undefined;
  readOnly: boolean;
  route: Route;
  focus: { pointer: string } | undefined;
  onUnset: (pointer: string) => void;
}

const FILTERS: readonly string[] = ["all", "changed", "runtime", "problems"] satisfies Only[];

function TabContent(props: TabContentProps) {
  const { tab, session, data, tree, explained, readOnly, route, focus, onUnset } = props;
  const { service, environment } = session;
  const other = tabOf(tab);
  const format: TextFormat = route.query.format === "yaml" ? "yaml" : "json";
  const problems = useProblems(session, data);
  if (other !== undefined) {
    return <Lazy key={tab} load={other.load} props={{ service, env: environment }} />;
  }
  if (tree === undefined) return <WithoutSchema error={props.withoutSchema} />;
  if (tab === "raw") {
    return (
      <Lazy
        load={() => import("../edit/raw_editor.tsx").then((module) => module.RawEditor)}
        props={{ session, tree, readOnly, format }}
      />
    );
  }
  const { filter = "", only = "all" } = route.query;
  return (
    <>
      {session.text.value?.broken !== undefined && (
        <Notice tone="warning" title="The raw editor has a text that is no configuration yet.">
          <p>The form does not show it.</p>
          <a href={href(route.path, { env: route.query.env, tab: "raw" })}>To the raw editor</a>
        </Notice>
      )}
      <Form
        schema={tree}
        config={session.base.value.config}
        explained={explained}
        edits={session.edits}
        problems={problems}
        readOnly={readOnly}
        service={service}
        environment={environment}
        filter={filter}
        only={FILTERS.includes(only) ? (only as Only) : "all"}
        onFilter={(text, which) => changeQuery({ filter: text, only: which === "all" ? undefined : which })}
        focus={focus}
        onUnset={onUnset}
      />
    </>
  );
}

/** Shows why there is neither form nor editor: without a schema, the console cannot know which values are secrets. */
function WithoutSchema({ error }: { error: RequestError | undefined }) {
  if (error === undefined || error.code === "unauthorized") return null;
  return (
    <>
      <ErrorSummary error={error} />
      <p>
        The form and the text need the schema of the service. <a href={href(["drift"])}>Drift and alerts</a>
      </p>
    </>
  );
}

/** Return what the daemon says is wrong: with the edits, or before there are any with what the files say. */
function useProblems(session: Session, { problems, missing }: Configuration) {
  const refused = session.problems.value;
  const { service } = session;
  return useMemo(() => {
    if (refused.length > 0) return refused;
    const prefix = `/services/${service}`;
    const named = problems
      .filter(({ pointer }) => pointer.startsWith(`${prefix}/`))
      .map(({ pointer, message }) => ({ pointer: pointer.slice(prefix.length), message }));
    const places = new Set(named.map(({ pointer }) => pointer));
    const others = missing.filter((pointer) => !places.has(pointer));
    return [...named, ...others.map((pointer) => ({ pointer, message: "is missing" }))];
  }, [refused, problems, missing, service]);
}

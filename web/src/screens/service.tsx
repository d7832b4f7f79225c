/** The screen of one service in one environment: `#/services/NAME?env=…&tab=…`. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { environments } from "../api/queries.ts";
import { reversed } from "../edit/conflicts.ts";
import type { TextFormat } from "../edit/drafts.ts";
import { EditBar } from "../edit/edit_bar.tsx";
import { Lazy } from "../edit/lazy.tsx";
import { Review, type Reviewed } from "../edit/review.tsx";
import {
  type Configuration,
  configurationOf,
  type Explained,
  explainOf,
  type Status,
  schemaOf,
  statusOf,
} from "../edit/service_data.ts";
import { type Session, sessionOf } from "../edit/session.ts";
import { Form, type Only } from "../form/form.tsx";
import { readSchema, type SchemaTree } from "../form/schema.ts";
import { changeQuery, href, type Route } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { Await, Heading, Notice, Problems } from "../ui/elements.tsx";
import { ServiceHeader } from "./service_header.tsx";
import { TABS } from "./service_tabs.ts";

export function Service({ route, name }: ScreenProps) {
  const { env } = route.query;
  const key = `${env ?? ""} ${name}`;
  const topics = [`change:${name}`, "environment", "files"];
  const config = useResource(`config ${key}`, (signal) => configurationOf(name, env, signal), topics);
  const schema = useResource(`schema ${key}`, (signal) => schemaOf(name, env, signal), ["environment", "files"]);
  const explained = useResource(`explain ${key}`, (signal) => explainOf(name, env, signal), topics);
  const status = useResource(`status ${key}`, (signal) => statusOf(name, env, signal), [
    ...topics,
    `instances:${name}`,
    "online",
    "drift",
  ]);
  return (
    <>
      <Heading title={name} />
      <Await of={config}>
        {(data) => (
          <Opened
            key={data.environment}
            route={route}
            name={name}
            data={data}
            schema={schema.data}
            explained={explained.data}
            status={status.data}
          />
        )}
      </Await>
    </>
  );
}

interface OpenedProps {
  route: Route;
  name: string;
  data: Configuration;
  schema: object | undefined;
  explained: Explained | undefined;
  status: Status | undefined;
}

function Opened({ route, name, data, schema, explained, status }: OpenedProps) {
  const session = useMemo(() => sessionOf(name, data.environment, data), [name, data.environment]);
  useEffect(() => session.receive(data), [session, data]);
  const tree = useMemo(() => schema && readSchema(schema as Parameters<typeof readSchema>[0]), [schema]);
  const { tab = "form", env } = route.query;
  const focus = useSignal<{ pointer: string } | undefined>(undefined);
  const [reviewed, setReviewed] = useState<Reviewed>({ kind: "edits" });
  const readOnly = whyReadOnly(status, name);
  const opened = useRef(false);
  const known = useResource("environments", environments, ["environment", "files"]).data?.environments;
  const isProtected = status?.protected || (known?.find((each) => each.name === data.environment)?.protected ?? false);

  const review = (of: Reviewed) => {
    setReviewed(of);
    opened.current = true;
    // The edits are those of this environment, whichever is active later. Back closes the review.
    changeQuery({ env: data.environment, review: "1" }, { replace: false });
  };
  const close = () => {
    // The entry of the history that opened it goes away, unless the page was loaded with the review open.
    if (opened.current) history.back();
    else changeQuery({ review: undefined });
    opened.current = false;
  };
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
      <ServiceHeader name={name} data={data} status={status} isProtected={isProtected} route={route} />
      {data.revision === 0 && (
        <Notice tone="warning" title={`${name} has no configuration in ${data.environment} yet.`}>
          <p>What the files say of it is not valid. It begins with the first change that makes it valid.</p>
          <Problems problems={data.problems} />
          {data.missing.length > 0 && (
            <p>
              Missing:{" "}
              {data.missing.map((pointer) => (
                <button key={pointer} type="button" class="link" onClick={() => goTo(pointer)}>
                  <code>{pointer}</code>
                </button>
              ))}
            </p>
          )}
        </Notice>
      )}
      {readOnly !== undefined && <Notice title="Read only.">{` ${readOnly}`}</Notice>}
      <Tabs route={route} tab={tab} />
      {tree === undefined ? (
        <p class="loading">Loading …</p>
      ) : (
        <TabContent
          tab={tab}
          session={session}
          tree={tree}
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
        onReview={() => review({ kind: "edits" })}
        onUndo={undo}
        onPlace={goTo}
      />
      {route.query.review !== undefined && (env === undefined || env === data.environment) && (
        <Review
          session={session}
          of={reviewed}
          isProtected={isProtected}
          whole={tab === "raw"}
          onClose={close}
          onPlace={goTo}
        />
      )}
    </>
  );
}

function whyReadOnly(status: Status | undefined, name: string): string | undefined {
  if (status?.mayWrite !== false) return undefined;
  return `You may read ${name} and not change it. A token that may is entered above.`;
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
  const { env } = route.query;
  const all: [string, string][] = [
    ["form", "Form"],
    ["raw", "Raw"],
    ...Object.entries(TABS).map(([name, { title }]): [string, string] => [name, title]),
  ];
  return (
    <nav class="tabs" aria-label="Views of the service">
      {all.map(([name, title]) => (
        <a
          key={name}
          href={href(route.path, { env, tab: name === "form" ? undefined : name })}
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
  tree: SchemaTree;
  explained: Explained | undefined;
  readOnly: boolean;
  route: Route;
  focus: { pointer: string } | undefined;
  onUnset: (pointer: string) => void;
}

const FILTERS: readonly string[] = ["all", "changed", "runtime", "problems"] satisfies Only[];

function TabContent({ tab, session, tree, explained, readOnly, route, focus, onUnset }: TabContentProps) {
  const { service, environment } = session;
  const other = TABS[tab];
  const format: TextFormat = route.query.format === "yaml" ? "yaml" : "json";
  if (tab === "raw") {
    return (
      <Lazy
        load={() => import("../edit/raw_editor.tsx").then((module) => module.RawEditor)}
        props={{ session, tree, readOnly, format }}
      />
    );
  }
  if (other !== undefined) {
    return <Lazy key={tab} load={other.load} props={{ service, env: environment }} />;
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
        problems={[]}
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

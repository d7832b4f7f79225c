/** The frame around each screen: navigation, the state of daemon and connection, who one is, theme and token. */

import { useEffect, useState } from "preact/hooks";
import { token, unauthorized, useToken } from "../api/client.ts";
import { connection, refusal } from "../api/event_stream.ts";
import { type Health, health } from "../api/queries.ts";
import { href, route } from "../router.ts";
import { servicesHref } from "../screens/services.tsx";
import { findScreen, PLACES, type Place, type Screen } from "../screens.ts";
import { invalidate, useResource } from "../store/resources.ts";
import { isAdmin, useWhoami } from "../store/whoami.ts";
import { type Theme, theme } from "../theme.ts";
import { Heading, Notice, Tag, type Tone } from "./elements.tsx";
import { ErrorBoundary } from "./error_boundary.tsx";
import { PageNotices } from "./page_notices.tsx";
import { asksToken, askToken, stopAskingToken, TokenDialog } from "./token_dialog.tsx";

export function Shell() {
  const [asking, setAsking] = useState(false);
  const denied = unauthorized.value;
  const isRefused = denied !== undefined;
  const hasToken = token.value !== "";
  // Whoever has no token at all sees nothing before there is one. One that ended is told of without a dialog, which
  // would take the focus from what is being typed.
  useEffect(() => {
    if (!isRefused) return;
    // A home that was open to everybody may have been closed since.
    invalidate("access");
    if (!hasToken && !asksToken.peek()) setAsking(true);
  }, [isRefused]);
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <div class="frame">
        <Bar />
        <main id="main" tabIndex={-1}>
          <PageNotices />
          {isRefused && (
            <Notice
              tone="warning"
              title={hasToken ? "The daemon does not take this token any more." : "The daemon asks for a token."}
            >
              <p>{hasToken ? denied : "What you asked for is not open to everybody."}</p>
              <button type="button" onClick={askToken}>
                Enter a token
              </button>
            </Notice>
          )}
          <ErrorBoundary place={route.value.path.join("/")}>
            <CurrentScreen />
          </ErrorBoundary>
        </main>
      </div>
      {(asking || asksToken.value) && (
        <TokenDialog
          onClose={() => {
            setAsking(false);
            stopAskingToken();
          }}
        />
      )}
    </>
  );
}

function Bar() {
  const state = useResource("health", health, ["health", "environment"]);
  const [open, setOpen] = useState(false);
  const place = route.value.path.join("/");
  useEffect(() => setOpen(false), [place]);
  return (
    <header class="bar" data-open={open}>
      <a class="brand" href={servicesHref.value}>
        aliciacfg
      </a>
      {state.data !== undefined && (
        <span class="environment" title="The active environment">
          <span class="visually-hidden">Active environment: </span>
          {state.data.environment}
        </span>
      )}
      <button
        type="button"
        class="menu"
        aria-expanded={open}
        aria-controls="navigation"
        onClick={() => setOpen((before) => !before)}
      >
        Menu
        <Marks health={state.data} />
      </button>
      <div class="navigation" id="navigation">
        <Places health={state.data} />
        <div class="states">
          <HealthState health={state.data} />
          <Connection />
          <Who />
          <ThemeChoice />
        </div>
      </div>
    </header>
  );
}

/** On the button of the menu: that something in it needs a look. */
function Marks({ health }: { health: Health | undefined }) {
  const isBad = connection.value === "lost" || (health !== undefined && health.status !== "healthy");
  return isBad ? <span class="mark"> (!)</span> : null;
}

function Places({ health }: { health: Health | undefined }) {
  const who = useWhoami();
  const here = route.value.path[0] ?? "services";
  const counts: Record<string, number> = {
    drift: (health?.drift ?? 0) + Object.keys(health?.alerts ?? {}).length,
  };
  const shown = PLACES.filter(({ admin, all }) => (!admin || isAdmin(who)) && (!all || who.data?.read !== "some"));
  return (
    <nav aria-label="Screens">
      <ul>
        {shown.map((place) => (
          <li key={place.title}>
            <a href={address(place)} {...(place.path[0] === here ? { "aria-current": "page" } : {})}>
              {place.title}
              {(counts[place.path[0] ?? ""] ?? 0) > 0 && (
                <span class="count">
                  <span class="visually-hidden">: </span>
                  {counts[place.path[0] ?? ""]}
                </span>
              )}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function address({ path }: Place): string {
  return path[0] === "services" ? servicesHref.value : href(path);
}

const HEALTH_TONES: Record<string, Tone> = { healthy: "good", degraded: "warning", unhealthy: "bad" };

function HealthState({ health }: { health: Health | undefined }) {
  if (health === undefined) return null;
  return (
    <a class="state" href={href(["health"])}>
      <span class="muted">Daemon</span>{" "}
      {connection.value === "lost" ? (
        <Tag>unknown</Tag>
      ) : (
        <Tag tone={HEALTH_TONES[health.status] ?? "neutral"}>{health.status}</Tag>
      )}
    </a>
  );
}

const CONNECTIONS: Record<typeof connection.value, { tone: Tone; text: string; title: string }> = {
  live: { tone: "good", text: "live", title: "A change appears here at once." },
  connecting: { tone: "neutral", text: "connecting", title: "The page connects to the daemon." },
  lost: { tone: "bad", text: "lost", title: "The daemon does not answer. The page tries again by itself." },
  refused: {
    tone: "neutral",
    text: "not live",
    title: "The daemon sends this page no events. It looks for changes every 15 seconds.",
  },
};

const ELSEWHERE =
  "Other windows with the console were used later. This one looks for changes every 15 seconds, and at once when you use it.";

function Connection() {
  const { tone, text, title } = CONNECTIONS[connection.value];
  const isElsewhere = connection.value === "refused" && refusal.value === "tabs";
  return (
    <span class="state" role="status" title={isElsewhere ? ELSEWHERE : title}>
      <span class="muted">Connection</span> <Tag tone={tone}>{text}</Tag>
    </span>
  );
}

const ROLES: Record<string, string> = {
  admin: "administrator",
  writer: "writer",
  reader: "reader",
  service: "service",
  metrics: "metrics only",
};

function Who() {
  const { data } = useWhoami();
  let text = token.value ? "with a token" : "without a token";
  if (data !== undefined) {
    if (data.name !== null) text = data.name;
    else if (data.open) text = "open to everybody";
    else if (data.write === "none" && data.read !== "none") text = "without a token: may read";
  }
  const role = data?.role ? (ROLES[data.role] ?? data.role) : undefined;
  return (
    <div class="who">
      <span class="state">
        <span class="muted">{data?.open ? "Access" : "You"}</span> <span class="name">{text}</span>
      </span>
      {role !== undefined && <span class="muted">{role}</span>}
      {token.value ? (
        <button type="button" class="small" onClick={() => useToken("")}>
          Forget the token
        </button>
      ) : (
        <button type="button" class="small" onClick={askToken}>
          Enter a token
        </button>
      )}
    </div>
  );
}

function ThemeChoice() {
  return (
    <label class="state theme">
      <span class="muted">Theme</span>
      <select
        value={theme.value}
        onChange={(event) => {
          theme.value = event.currentTarget.value as Theme;
        }}
      >
        <option value="system">System</option>
        <option value="light">Light</option>
        <option value="dark">Dark</option>
      </select>
    </label>
  );
}

function CurrentScreen() {
  const found = findScreen(route.value);
  const row = found?.row;
  const [loaded, setLoaded] = useState<{ row: unknown; screen?: Screen; failed?: string }>({ row: undefined });
  useEffect(() => {
    if (row?.load === undefined) return;
    let wanted = true;
    row.load().then(
      (screen) => wanted && setLoaded({ row, screen }),
      (error) => wanted && setLoaded({ row, failed: String(error) }),
    );
    return () => {
      wanted = false;
    };
  }, [row]);
  if (found === undefined || row === undefined) {
    return (
      <>
        <Heading title="Not found" />
        <p>
          No screen has this address. <a href={href(["services"])}>Services</a>
        </p>
      </>
    );
  }
  const Shown = row.screen ?? (loaded.row === row ? loaded.screen : undefined);
  if (Shown === undefined) {
    if (loaded.row === row && loaded.failed !== undefined) {
      return (
        <Notice tone="bad" title="This part of the console could not be loaded.">
          <p>The daemon may not answer at present. Drafts are kept.</p>
          <p class="muted">{loaded.failed}</p>
          <button type="button" onClick={() => location.reload()}>
            Load the page again
          </button>
        </Notice>
      );
    }
    return <p class="loading">Loading …</p>;
  }
  return <Shown route={route.value} name={found.name} key={found.name} />;
}

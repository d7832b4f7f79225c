/** The frame around each screen: navigation, the state of the connection, theme and token. */

import { useEffect, useState } from "preact/hooks";
import { token, unauthorized, useToken } from "../api/client.ts";
import { connection } from "../api/event_stream.ts";
import { health } from "../api/queries.ts";
import { href, route } from "../router.ts";
import { findScreen, PLACES, type Screen } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { type Theme, theme } from "../theme.ts";
import { Heading, Notice, Tag, type Tone } from "./elements.tsx";
import { TokenDialog } from "./token_dialog.tsx";

export function Shell() {
  const [asking, setAsking] = useState(false);
  const denied = unauthorized.value;
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <Bar onToken={() => setAsking(true)} />
      <main id="main" tabIndex={-1}>
        {denied !== undefined && (
          <Notice tone="warning" title="The daemon asks for a token.">
            <p>{denied}</p>
            <button type="button" onClick={() => setAsking(true)}>
              Enter a token
            </button>
          </Notice>
        )}
        <CurrentScreen />
      </main>
      {asking && <TokenDialog onClose={() => setAsking(false)} />}
    </>
  );
}

const HEALTH_TONES: Record<string, Tone> = { healthy: "good", degraded: "warning", unhealthy: "bad" };

function Bar({ onToken }: { onToken: () => void }) {
  const state = useResource("health", health, ["health", "environment"]);
  const here = route.value.path[0] ?? "services";
  return (
    <header class="bar">
      <a class="brand" href={href(["services"])}>
        aliciacfg
      </a>
      <nav aria-label="Screens">
        <ul>
          {PLACES.map((place) => (
            <li key={place.title}>
              <a href={href(place.path)} {...(place.path[0] === here ? { "aria-current": "page" } : {})}>
                {place.title}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="states">
        {state.data !== undefined && (
          <>
            <span class="environment" title="The active environment">
              {state.data.environment}
            </span>
            <Tag tone={HEALTH_TONES[state.data.status] ?? "neutral"}>{state.data.status}</Tag>
          </>
        )}
        <Connection />
        <ThemeChoice />
        {token.value ? (
          <button type="button" onClick={() => useToken("")}>
            Forget the token
          </button>
        ) : (
          <button type="button" onClick={onToken}>
            Token …
          </button>
        )}
      </div>
    </header>
  );
}

function Connection() {
  switch (connection.value) {
    case "live":
      return <Tag tone="good">live</Tag>;
    case "connecting":
      return <Tag>connecting</Tag>;
    case "lost":
      return <Tag tone="bad">connection lost, trying again</Tag>;
    case "refused":
      return <Tag tone="warning">no live updates</Tag>;
  }
}

function ThemeChoice() {
  return (
    <label class="theme">
      <span class="visually-hidden">Theme</span>
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
          <p>{loaded.failed}</p>
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

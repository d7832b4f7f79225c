/** What the page says above every screen: of its connection to the daemon, of other versions, and of failures. */

import { useEffect, useState } from "preact/hooks";
import { unexpected } from "../api/client.ts";
import { connection, refusal } from "../api/event_stream.ts";
import { isObject } from "../api/json.ts";
import { invalidateAll, onEvent } from "../store/resources.ts";
import { Notice } from "./elements.tsx";
import { FailureNotice, LoadAgain } from "./error_boundary.tsx";

export function PageNotices() {
  return (
    <>
      <Lost />
      <NotLive />
      <Updated />
      <Unexpected />
      <FailureNotice />
    </>
  );
}

/** Says that the daemon does not answer, if that lasts longer than a restart. */
function Lost() {
  const [shown, setShown] = useState(false);
  const isLost = connection.value === "lost";
  useEffect(() => {
    if (!isLost) {
      setShown(false);
      return;
    }
    const timer = setTimeout(() => setShown(true), 1500);
    return () => clearTimeout(timer);
  }, [isLost]);
  return shown ? (
    <Notice tone="warning" title="The daemon does not answer.">
      {" "}
      What you see may be out of date. The page tries again by itself; what you typed stays.
    </Notice>
  ) : null;
}

/** Says that all event streams are taken, so that the page polls. */
function NotLive() {
  if (connection.value !== "refused" || refusal.value !== "busy") return null;
  return (
    <Notice title="The daemon has no event stream left for this page.">
      <p>
        The page looks for changes every 15 seconds, and is live again when a stream is free. Each visible page of the
        console uses a stream, and so does each program that listens to events.
      </p>
    </Notice>
  );
}

/** Says that the daemon, and so the console, was updated since the page was loaded. */
function Updated() {
  const [versions, setVersions] = useState<{ first?: string; now?: string }>({});
  useEffect(
    () =>
      onEvent(({ kind, data }) => {
        if (kind !== "hello" || !isObject(data) || typeof data.version !== "string") return;
        const { version } = data;
        setVersions(({ first = version }) => ({ first, now: version }));
      }),
    [],
  );
  if (versions.first === versions.now) return null;
  return (
    <Notice tone="info" title={`The daemon was updated from ${versions.first} to ${versions.now}.`}>
      <p>This page is still that of the earlier version. Drafts are kept.</p>
      <LoadAgain />
    </Notice>
  );
}

/** Says that another program answers, or a version of the daemon for which this page is not made. */
function Unexpected() {
  if (unexpected.value === undefined) return null;
  return (
    <Notice title="An answer is not what this page expects.">
      <p>{unexpected.value.message}</p>
      <p>
        If the daemon was updated, load the page again; otherwise see whether a proxy answers in its place. Drafts are
        kept.
      </p>
      <div class="buttons">
        <button type="button" onClick={invalidateAll}>
          Look again
        </button>
        <LoadAgain />
      </div>
    </Notice>
  );
}

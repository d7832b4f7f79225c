/** The files read again: what a dry run says of them, then for real; and the migrations that wait. */

import { useState } from "preact/hooks";
import { type Answers, failure, type RequestError, request } from "../api/client.ts";
import { changeQuery, enter, leave, route } from "../router.ts";
import { invalidate, useResource, useVisit } from "../store/resources.ts";
import { Await, ErrorSummary, Notice, Tag } from "../ui/elements.tsx";
import { counted } from "../ui/words.ts";
import { HomeChanges } from "./home_changes.tsx";
import { ProblemList } from "./problem_list.tsx";

type Loaded = Answers["ReloadAnswer"];

function reload(body: { dry_run: boolean; migrate: boolean }, signal?: AbortSignal): Promise<Loaded> {
  return request("POST", "/reload", { body, ...(signal === undefined ? {} : { signal }) });
}

/** In the address: `files=1`, look at the files; `migrate=1`, with their migrations. */
export function Reload() {
  const { files, migrate } = route.value.query;
  return (
    <section aria-labelledby="reload">
      <h2 id="reload">Files</h2>
      <p>The daemon loads edits of files by itself. Here it reads them now, and says what they change.</p>
      {files === "1" ? (
        <Reading migrate={migrate === "1"} />
      ) : (
        <button type="button" onClick={() => enter({ files: "1" })}>
          Look at the files …
        </button>
      )}
    </section>
  );
}

function Reading({ migrate }: { migrate: boolean }) {
  const visit = useVisit();
  const outcome = useResource(`reload ${migrate} ${visit}`, (signal) => reload({ dry_run: true, migrate }, signal), [
    "files",
    "environment",
  ]);
  const [error, setError] = useState<RequestError>();
  const [done, setDone] = useState<Loaded>();
  const [sending, setSending] = useState(false);
  async function load() {
    setSending(true);
    setError(undefined);
    try {
      setDone(await reload({ dry_run: false, migrate }));
      invalidate("files", "change", "environment");
    } catch (reason) {
      setError(failure(reason));
    } finally {
      setSending(false);
    }
  }
  if (done !== undefined) {
    return (
      <>
        <Notice tone="good" title={`The files are loaded: ${done.message}.`} />
        <Outcome answer={done} />
        <Close />
      </>
    );
  }
  if (outcome.data === undefined && outcome.error !== undefined) {
    return (
      <>
        <Refusal error={outcome.error} />
        <Close />
      </>
    );
  }
  return (
    <Await of={outcome}>
      {(answer) => {
        const waiting = answer.migrations.filter(({ done: carriedOut }) => !carriedOut);
        return (
          <>
            {error !== undefined && <Refusal error={error} />}
            <p>{answer.message}.</p>
            <Outcome answer={answer} />
            {waiting.length > 0 && (
              <label class="toggle">
                <input
                  type="checkbox"
                  checked={migrate}
                  onChange={(event) => changeQuery({ migrate: event.currentTarget.checked ? "1" : undefined })}
                />
                Carry out {counted(waiting.length, "migration")}
              </label>
            )}
            <div class="buttons">
              <button type="button" class="primary" disabled={sending} onClick={load}>
                {migrate ? "Load the files and migrate" : "Load the files"}
              </button>
              <button type="button" onClick={() => leave("files", "migrate")}>
                Cancel
              </button>
            </div>
          </>
        );
      }}
    </Await>
  );
}

function Close() {
  return (
    <div class="buttons">
      <button type="button" onClick={() => leave("files", "migrate")}>
        Close
      </button>
    </div>
  );
}

function Refusal({ error }: { error: RequestError }) {
  if (error.problems.length === 0) return <ErrorSummary error={error} />;
  return (
    <Notice tone="bad" title={error.message}>
      <ProblemList problems={error.problems} />
    </Notice>
  );
}

function Outcome({ answer }: { answer: Loaded }) {
  return (
    <>
      {(answer.warnings?.length ?? 0) > 0 && (
        <Notice tone="warning" title="Warnings">
          <ul class="problems">
            {(answer.warnings ?? []).map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
        </Notice>
      )}
      <HomeChanges answer={answer} env={answer.environment} />
      {answer.migrations.map((migration) => (
        <Migration key={migration.service} migration={migration} />
      ))}
    </>
  );
}

function Migration({ migration }: { migration: Loaded["migrations"][number] }) {
  const { service, from_version, to_version, files, environments, problems, done } = migration;
  return (
    <section class="panel">
      <h3>
        Migration of {service} from {from_version} to {to_version}{" "}
        {problems.length > 0 ? (
          <Tag tone="bad">not possible</Tag>
        ) : done ? (
          <Tag tone="good">done</Tag>
        ) : (
          <Tag tone="warning">waits</Tag>
        )}
      </h3>
      {files.length > 0 && (
        <p>
          By{" "}
          {files.map((file) => (
            <code key={file}>{file} </code>
          ))}
        </p>
      )}
      {environments.length > 0 && <p>Run-time changes are stored in {environments.join(", ")}.</p>}
      <ProblemList problems={problems} />
      <HomeChanges of={`migration:${service}:`} answer={migration} noun="environment" env="" />
    </section>
  );
}

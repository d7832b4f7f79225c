/** The comparison of two sides of one service: two environments, or two revisions. */

import { useMemo } from "preact/hooks";
import type { Answers } from "../api/client.ts";
import type { JsonObject } from "../api/json.ts";
import { environments } from "../api/queries.ts";
import { changeQuery, route } from "../router.ts";
import { useResource } from "../store/resources.ts";
import { mayWrite, useWhoami } from "../store/whoami.ts";
import { type Change, Differences, DocumentDifferences } from "../ui/differences.tsx";
import { Announcement, Await, Chip, Field, Notice } from "../ui/elements.tsx";
import { useQueryText } from "../ui/query_text.ts";
import { SearchField } from "../ui/search_field.tsx";
import { VERBATIM } from "../ui/verbatim.ts";
import { counted } from "../ui/words.ts";
import { comparedChanges, matching } from "./changes.ts";
import { compare, document, history, positive, type Sides } from "./history_queries.ts";
import { Pointers, ProblemList, Remedies } from "./problem_list.tsx";
import { TakeButton, Taken, type Target, useTaking } from "./take.tsx";

/** Return the two sides of the address; what it does not say is the environment, and another one that has the service. */
export function useSides(env: string | undefined, service: string | undefined): Sides | undefined {
  const { data, error } = useResource("environments", environments, ["environment", "files"]);
  const query = route.value.query;
  // Who may not list the environments still knows which one is active.
  const whoami = useWhoami().data;
  const active = data?.active ?? whoami?.environment;
  const env1 = query.env1 ?? env ?? active;
  const isKnown = data !== undefined || error !== undefined || query.env2 !== undefined;
  if (env1 === undefined || !isKnown) return undefined;
  const known = data?.environments.filter(({ services }) => service === undefined || services.includes(service)) ?? [];
  const names = known.map(({ name }) => name).filter((name) => name !== env1);
  // Beside another environment, the active one is what people want to know about.
  const other = names.find((name) => name === active) ?? names[0];
  const rev1 = positive(query.rev1);
  const rev2 = positive(query.rev2);
  // Who names a revision compares it with another one of the same environment.
  const env2 = query.env2 ?? (rev1 === undefined && rev2 === undefined ? (other ?? env1) : env1);
  return { env1, env2, rev1, rev2 };
}

function swap({ env1, env2, rev1, rev2 }: Sides): Sides {
  return { env1: env2, env2: env1, rev1: rev2, rev2: rev1 };
}

interface ChoiceProps {
  sides: Sides;
  /** The service whose revisions can be chosen; without one, only environments can be. */
  service?: string;
  /** Whether each side has revisions, as far as it is known. */
  revisions?: { first: boolean; second: boolean };
}

/** The choice of both sides. */
export function SidesChoice({ sides, service, revisions }: ChoiceProps) {
  const choose = (changed: Partial<Sides>) => changeQuery({ ...sides, ...changed }, { replace: false });
  return (
    <div class="pair">
      <fieldset>
        <legend>
          <span class="sign">−</span> First side
        </legend>
        <EnvironmentField value={sides.env1} onChange={(env1) => choose({ env1, rev1: undefined })} />
        {service !== undefined && (
          <RevisionField
            service={service}
            env={sides.env1}
            value={sides.rev1}
            exists={revisions?.first ?? false}
            onChange={(rev1) => choose({ rev1 })}
          />
        )}
      </fieldset>
      <button type="button" onClick={() => choose(swap(sides))}>
        <span aria-hidden="true">⇄ </span>Swap sides
      </button>
      <fieldset>
        <legend>
          <span class="sign">+</span> Second side
        </legend>
        <EnvironmentField value={sides.env2} onChange={(env2) => choose({ env2, rev2: undefined })} />
        {service !== undefined && (
          <RevisionField
            service={service}
            env={sides.env2}
            value={sides.rev2}
            exists={revisions?.second ?? false}
            onChange={(rev2) => choose({ rev2 })}
          />
        )}
      </fieldset>
    </div>
  );
}

function EnvironmentField({ value, onChange }: { value: string; onChange: (name: string) => void }) {
  const { data, error } = useResource("environments", environments, ["environment", "files"]);
  const names = data?.environments.map(({ name }) => name) ?? [];
  if (data === undefined && error !== undefined) {
    return (
      <Field label="Environment">
        {({ id }) => (
          <input
            id={id}
            value={value}
            autoComplete="off"
            {...VERBATIM}
            onChange={(event) => onChange(event.currentTarget.value.trim() || value)}
          />
        )}
      </Field>
    );
  }
  return (
    <Field label="Environment">
      {({ id }) => (
        <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
          {[...new Set([...names, value])].map((name) => (
            <option key={name} value={name}>
              {name}
              {name === data?.active && " (active)"}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

const LISTED = 200;

interface RevisionProps {
  service: string;
  env: string;
  value: number | undefined;
  /** Whether the service has a history there; otherwise nothing but the newest one can be chosen. */
  exists: boolean;
  onChange: (revision: number | undefined) => void;
}

function RevisionField({ service, env, value, exists, onChange }: RevisionProps) {
  const { data } = useResource(
    `${exists ? "" : "no "}history ${env} ${service} ${LISTED}`,
    async (signal) => (exists ? await history(service, env, LISTED, signal) : undefined),
    [`change:${service}`],
  );
  const revisions = data?.revisions ?? [];
  return (
    <Field label="Revision">
      {({ id }) => (
        <select id={id} value={String(value ?? "")} onChange={(event) => onChange(positive(event.currentTarget.value))}>
          <option value="">newest</option>
          {value !== undefined && !revisions.some(({ revision }) => revision === value) && (
            <option value={String(value)}>{value}</option>
          )}
          {revisions
            .filter(({ deleted }) => !deleted)
            .map(({ revision, comment }) => (
              <option key={revision} value={String(revision)}>
                {revision}
                {comment ? `: ${comment.slice(0, 40)}` : ""}
              </option>
            ))}
        </select>
      )}
    </Field>
  );
}

/**
 * Both sides of a service, and what differs between them. In the address: the sides, `find`, `show`, which differences,
 * and `whole`.
 */
export function Comparison({ service, sides }: { service: string; sides: Sides }) {
  const { env1, env2, rev1, rev2 } = sides;
  const key = JSON.stringify(sides);
  const found = useResource(`compare ${service} ${key}`, (signal) => compare(service, sides, signal), [
    `change:${service}`,
    "files",
  ]);
  const { data, error } = found;
  const writable = mayWrite(useWhoami());
  // Where the files yield nothing valid yet, there is no history to ask for.
  const revisions = {
    first: (data?.rev1 ?? 0) > 0 || error !== undefined,
    second: (data?.rev2 ?? 0) > 0 || error !== undefined,
  };
  return (
    <>
      <SidesChoice sides={sides} service={service} revisions={revisions} />
      {env1 === env2 && rev1 === rev2 ? (
        <Notice title="Both sides are the same. Choose another environment or revision for one of them." />
      ) : (
        <Await of={found}>
          {(answer) => (
            <Answer
              key={key}
              service={service}
              answer={answer}
              target={writable ? targetOf(service, sides, answer) : undefined}
            />
          )}
        </Await>
      )}
    </>
  );
}

/** Return the side whose draft can get values of the other one: the newest revision of a service that is valid. */
function targetOf(service: string, { rev1, rev2 }: Sides, answer: Answers["CompareAnswer"]): Target | undefined {
  if (rev1 === undefined && answer.rev1 > 0) return { service, env: answer.env1, side: "old" };
  if (rev2 === undefined && answer.rev2 > 0) return { service, env: answer.env2, side: "new" };
  return undefined;
}

type Show = "all" | "changed" | "first" | "second";

interface AnswerProps {
  service: string;
  answer: Answers["CompareAnswer"];
  target: Target | undefined;
}

function Answer({ service, answer, target }: AnswerProps) {
  const [search, setSearch, writeSearch] = useQueryText("find");
  const { show: wanted = "all", whole } = route.value.query;
  const changes = useMemo(() => comparedChanges(answer), [answer]);
  const taking = useTaking(target, changes);
  const names = sideNames(answer);
  const short = answer.env1 === answer.env2 ? names : { old: answer.env1, new: answer.env2 };
  const kinds: Record<Show, readonly Change[]> = {
    all: changes,
    changed: changes.filter((one) => "old" in one && "new" in one),
    first: changes.filter((one) => !("new" in one)),
    second: changes.filter((one) => !("old" in one)),
  };
  const show: Show = wanted in kinds ? (wanted as Show) : "all";
  const shown = useMemo(() => matching(kinds[show], search), [changes, show, search]);
  const labels: Record<Show, string> = {
    all: "All differences",
    changed: "Other values",
    first: `Only in ${short.old}`,
    second: `Only in ${short.new}`,
  };
  const canShowWhole = answer.rev1 > 0 && answer.rev2 > 0;
  return (
    <>
      <Incomplete answer={answer} />
      <Lacking answer={answer} />
      {answer.equal ? (
        <Notice tone="good" title={`${service} is equal in ${names.old} and ${names.new}.`} />
      ) : (
        <>
          <fieldset class="chips">
            <legend class="visually-hidden">Show only</legend>
            {(Object.keys(kinds) as Show[]).map((kind) => (
              <Chip
                key={kind}
                pressed={kind === show}
                count={kinds[kind].length}
                onClick={() => changeQuery({ show: kind === "all" ? undefined : kind })}
              >
                {labels[kind]}
              </Chip>
            ))}
          </fieldset>
          <search class="filters">
            <SearchField
              label="Filter"
              hint="Place or value"
              value={search}
              onValue={setSearch}
              onComplete={writeSearch}
            />
            {canShowWhole && (
              <label class="toggle">
                <input
                  type="checkbox"
                  checked={whole === "1"}
                  onChange={(event) => changeQuery({ whole: event.currentTarget.checked ? "1" : undefined })}
                />
                Whole configuration
              </label>
            )}
          </search>
        </>
      )}
      <p class="muted">
        <span class="sign">−</span> {names.old}, <span class="sign">+</span> {names.new}
      </p>
      <Announcement>{`${counted(shown.length, "difference")}`}</Announcement>
      {target !== undefined && !answer.equal && whole !== "1" && <Taken {...{ target, taking, shown }} />}
      {whole === "1" && canShowWhole ? (
        <Whole service={service} answer={answer} names={names} />
      ) : (
        !answer.equal && (
          <Differences
            changes={shown}
            old={names.old}
            new={names.new}
            beside={(change) => target && <TakeButton {...{ target, taking, change }} />}
            empty={changes.length > 0 ? "No difference is like that." : "Nothing differs."}
          />
        )
      )}
      {answer.secrets.length > 0 && (
        <p class="muted">
          {counted(answer.secrets.length, "secret is", "secrets are")} on both sides. Only administrators learn whether
          two secrets are equal.
        </p>
      )}
    </>
  );
}

function sideNames({ env1, env2, rev1, rev2 }: Answers["CompareAnswer"]): { old: string; new: string } {
  const name = (env: string, revision: number) => `${env}, ${revision ? `revision ${revision}` : "not valid yet"}`;
  return { old: name(env1, rev1), new: name(env2, rev2) };
}

/** An environment whose files yield nothing valid: what is compared then, what is wrong, and what corrects it. */
function Incomplete({ answer }: { answer: Answers["CompareAnswer"] }) {
  const problems = Object.entries(answer.problems ?? {});
  if (problems.length === 0) return null;
  return (
    <>
      {problems.map(([environment, found]) => (
        <Notice
          key={environment}
          lasting
          tone="warning"
          title={`${answer.service} has no valid configuration in ${environment}. What its files say is compared.`}
        >
          <ProblemList problems={found} />
          <OtherMissing
            name={`missing:${environment}`}
            pointers={answer.missing?.[environment] ?? []}
            problems={found}
          />
        </Notice>
      ))}
      {(answer.remedies?.length ?? 0) > 0 && (
        <Notice lasting>
          <Remedies commands={answer.remedies ?? []} />
        </Notice>
      )}
    </>
  );
}

function OtherMissing({
  name,
  pointers,
  problems,
}: {
  name: string;
  pointers: readonly string[];
  problems: readonly Answers["Problem"][];
}) {
  const others = pointers.filter((pointer) => !problems.some((problem) => problem.pointer.endsWith(pointer)));
  if (others.length === 0) return null;
  return (
    <>
      <p>Missing:</p>
      <Pointers name={name} of={others} />
    </>
  );
}

function Lacking({ answer }: { answer: Answers["CompareAnswer"] }) {
  const lacking = answer.lacking_secrets ?? [];
  if (lacking.length === 0) return null;
  return (
    <Notice
      lasting
      tone="warning"
      title={`${answer.env2} lacks ${counted(lacking.length, "secret")} that ${answer.env1} has.`}
    >
      <Pointers name="lacking" of={lacking} />
    </Notice>
  );
}

interface WholeProps {
  service: string;
  answer: Answers["CompareAnswer"];
  names: { old: string; new: string };
}

function Whole({ service, answer, names }: WholeProps) {
  const { env1, env2, rev1, rev2 } = answer;
  const documents = useResource(
    `documents ${service} ${env1} ${rev1} ${env2} ${rev2}`,
    (signal) =>
      Promise.all([document(service, env1, rev1, signal), document(service, env2, rev2, signal)]).then((found) =>
        found.map(({ config }) => config as JsonObject),
      ),
    [],
  );
  return (
    <Await of={documents}>
      {([old = {}, next = {}]) => <DocumentDifferences old={old} next={next} names={names} />}
    </Await>
  );
}

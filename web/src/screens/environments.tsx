/** The environments: which is active, what is wrong with each, and the files to load again. */

import { environments, type Environments as Known, type Whoami } from "../api/queries.ts";
import { href } from "../router.ts";
import { type Loaded, useResource } from "../store/resources.ts";
import { isAdmin, useWhoami } from "../store/whoami.ts";
import { Await, Heading, Notice, Tag } from "../ui/elements.tsx";
import { ACTIONS, ListTable } from "../ui/list_table.tsx";
import { PlaceName } from "../ui/place_name.tsx";
import { counted } from "../ui/words.ts";
import { RefusedEdits } from "./refused_edits.tsx";
import { Reload } from "./reload.tsx";

export type Environment = Known["environments"][number];

/** Use all environments with the problems and missing secrets of each, which any change may correct. */
export function useEnvironments(): Loaded<Known> {
  return useResource("environments and what they lack", environments, ["environment", "files", "change"]);
}

/** Whether the caller sees no more of the environments than their names. */
export function seesNamesOnly({ data }: Loaded<Whoami>): boolean {
  return data !== undefined && data.read !== "all";
}

export function NamesOnly() {
  return <Notice title="Only those who may read all services see what the environments have and need." />;
}

export function Environments() {
  const known = useEnvironments();
  const who = useWhoami();
  const admin = isAdmin(who);
  if (seesNamesOnly(who)) {
    return (
      <>
        <Heading title="Environments" />
        <NamesOnly />
      </>
    );
  }
  return (
    <>
      <Heading title="Environments" />
      <Await of={known}>
        {(data) => (
          <>
            <RefusedEdits edits={data.refused_edits ?? []} />
            {data.environments.length === 0 && <p class="empty">The files define no environment.</p>}
            <ListTable caption="The environments" columns={["Environment", "State", "Services", "Files", ACTIONS]}>
              {data.environments.map((item) => (
                <Row key={item.name} item={item} active={data.active} admin={admin} />
              ))}
            </ListTable>
          </>
        )}
      </Await>
      {admin && <Reload />}
    </>
  );
}

function Row({ item, active, admin }: { item: Environment; active: string; admin: boolean }) {
  const { name } = item;
  return (
    <tr>
      <th scope="row">
        <a href={href(["environments", name])}>{name}</a>
      </th>
      <td data-label="State">
        <EnvironmentTags item={item} active={active} />
      </td>
      <td data-label="Services">
        <a href={href(["services"], { env: name })}>
          {item.services.length}
          <span class="visually-hidden"> services</span>
        </a>
      </td>
      <td data-label="Files">
        {item.files.map((file) => (
          <PlaceName key={file} block of={file} />
        ))}
      </td>
      <td class="actions">
        {name !== active && (
          <>
            {admin && (
              <a class="button" href={href(["environments", name], { activate: "1" })}>
                Activate …<span class="visually-hidden"> {name}</span>
              </a>
            )}{" "}
            <a class="button" href={href(["compare"], { env1: active, env2: name })}>
              Compare<span class="visually-hidden"> {name}</span> with {active}
            </a>
          </>
        )}
      </td>
    </tr>
  );
}

/** What is to be known of an environment at a glance. */
export function EnvironmentTags({ item, active }: { item: Environment; active: string }) {
  const lacking = Object.keys(item.lacking_secrets ?? {}).length;
  const hidden = item.hidden?.length ?? 0;
  return (
    <span class="tags">
      {item.name === active && <Tag tone="good">active</Tag>}
      {item.protected && <Tag tone="info">protected</Tag>}
      {item.problems.length > 0 && <Tag tone="bad">{counted(item.problems.length, "problem")}</Tag>}
      {lacking > 0 && <Tag tone="warning">{counted(lacking, "service lacks", "services lack")} secrets</Tag>}
      {hidden > 0 && <Tag tone="warning">{counted(hidden, "hidden value")}</Tag>}
      {item.problems.length === 0 && item.name !== active && <Tag>can be activated</Tag>}
    </span>
  );
}

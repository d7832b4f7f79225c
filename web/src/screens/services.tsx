import { type Services as AllServices, environments, type Service, services } from "../api/queries.ts";
import { changeQuery, href } from "../router.ts";
import type { ScreenProps } from "../screens.ts";
import { useResource } from "../store/resources.ts";
import { useDeferred } from "../ui/deferred.ts";
import { Announcement, Await, Field, Heading, Notice, Time } from "../ui/elements.tsx";

/** The services of an environment. The search and the environment are in the address. */
export function Services({ route }: ScreenProps) {
  const { env, search = "" } = route.query;
  const all = useResource(`services ${env ?? ""}`, (signal) => services(env, signal), [
    "change",
    "environment",
    "files",
    "online",
  ]);
  const known = useResource("environments", environments, ["environment", "files"]);
  return (
    <>
      <Heading title="Services" />
      <search class="filters">
        <Field label="Search">
          {({ id }) => (
            <input
              id={id}
              type="search"
              value={search}
              onInput={(event) => changeQuery({ search: event.currentTarget.value })}
            />
          )}
        </Field>
        {known.data !== undefined && (
          <Field label="Environment">
            {({ id }) => (
              <select id={id} value={env ?? ""} onChange={(event) => changeQuery({ env: event.currentTarget.value })}>
                <option value="">{known.data?.active} (active)</option>
                {known.data?.environments
                  .filter(({ name }) => name !== known.data?.active)
                  .map(({ name }) => (
                    <option key={name} value={name}>
                      {name}
                    </option>
                  ))}
              </select>
            )}
          </Field>
        )}
      </search>
      <Await of={all}>{(data) => <List data={data} search={search} env={env} />}</Await>
    </>
  );
}

function List({ data, search, env }: { data: AllServices; search: string; env: string | undefined }) {
  const wanted = search.toLowerCase();
  const found = data.configs.filter(({ service }) => service.toLowerCase().includes(wanted));
  const shown = useDeferred(found.length);
  return (
    <>
      {data.refused_edits.length > 0 && (
        <Notice tone="warning" title="Edits of files are refused; what was in force before goes on.">
          <ul>
            {data.refused_edits.map(({ file, line, message }) => (
              <li key={`${file} ${line}`}>
                <code>
                  {file}
                  {line !== null && `:${line}`}
                </code>{" "}
                {message}
              </li>
            ))}
          </ul>
        </Notice>
      )}
      <Announcement>{`${found.length} services`}</Announcement>
      {found.length === 0 ? (
        <p>{data.configs.length === 0 ? "No service has a configuration here." : "No service has a name like that."}</p>
      ) : (
        <table class="list">
          <thead>
            <tr>
              <th scope="col">Service</th>
              <th scope="col">Version</th>
              <th scope="col">Revision</th>
              <th scope="col">Last change</th>
            </tr>
          </thead>
          <tbody>
            {found.slice(0, shown).map((service) => (
              <Row key={service.service} service={service} env={env} />
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}

function Row({ service, env }: { service: Service; env: string | undefined }) {
  return (
    <tr>
      <th scope="row">
        <a href={href(["services", service.service], { env })}>{service.service}</a>
      </th>
      <td data-label="Version">{service.version}</td>
      <td data-label="Revision">{service.revision}</td>
      <td data-label="Last change">
        <Time seconds={service.last_updated} />
      </td>
    </tr>
  );
}

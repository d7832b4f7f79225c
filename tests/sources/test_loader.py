"""Environment and schema files as layers: their order, what is wrong with which, and where a value comes from."""

import contextlib
import gc
import os
import socket
import weakref
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pytest

from aliciacfg.documents import Json, find, merge
from aliciacfg.errors import SourceError, SourceProblem
from aliciacfg.sources.layers import Sources
from aliciacfg.sources.loader import load, source_paths

Write = Callable[[dict[str, str]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files by name and makes both directories."""

    def writing(files: dict[str, str]) -> Path:
        for name in ("environments", "schemas"):
            (tmp_path / name).mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        return tmp_path

    return writing


def read(home: Path, variables: dict[str, str] | None = None) -> Sources:
    return load(environments_dir=home / "environments", schemas_dir=home / "schemas", variables=variables or {})


def refused(home: Path) -> tuple[SourceProblem, ...]:
    with pytest.raises(SourceError) as caught:
        read(home)
    return caught.value.problems


def merged(sources: Sources, environment: str = "dev", service: str = "bell") -> Json:
    """What the files make of a service."""
    patches = [layer.patch for layer in sources.environments[environment].layers(service)]
    return reduce(merge, patches, sources.defaults(environment, service))


ORDER = [
    ("schemas/bell.yaml", "properties: {settings: {properties: {from: {type: string, default: schema}}}}\n"),
    ("environments/base.yaml", "defaults: {settings: {from: base defaults}}\n"),
    ("environments/dev.yaml", "defaults: {settings: {from: dev defaults}}\n"),
    ("environments/dev-secrets.yaml", "defaults: {settings: {from: secret defaults}}\n"),
    ("environments/base.yaml", "services: {bell: {settings: {from: base services}}}\n"),
    ("environments/dev.yaml", "services: {bell: {settings: {from: dev services}}}\n"),
    ("environments/dev-secrets.yaml", "services: {bell: {settings: {from: secret services}}}\n"),
]
WINNERS = [
    "schema", "base defaults", "dev defaults", "secret defaults", "base services", "dev services", "secret services",
]  # fmt: skip


@pytest.mark.parametrize("highest", range(len(ORDER)))
def test_each_layer_beats_all_below_it(write: Write, highest: int):
    """Seven layers in the order of the contract; what base says about one service beats an environment's defaults."""
    files = {"environments/dev.yaml": "protected: false\n"}
    for name, text in ORDER[: highest + 1]:
        files[name] = files.get(name, "") + text
    assert find(merged(read(write(files))), "/settings/from") == WINNERS[highest]


@pytest.mark.parametrize("alone", range(1, len(ORDER)))
def test_each_layer_counts_without_the_others(write: Write, alone: int):
    """Missing files are skipped, a secrets file may be all there is of an environment."""
    name, text = ORDER[alone]
    home = write({name: text})
    if "dev" not in name:
        write({"environments/dev.yaml": ""})
    assert find(merged(read(home)), "/settings/from") == WINNERS[alone]


def test_layers_are_merge_patches(write: Write):
    """Objects merge, arrays replace, null removes what any lower layer or the schema said, and may be set again."""
    home = write(
        {
            "schemas/bell.yaml": "properties: {settings: {properties: {gone: {default: 1}, kept: {default: 2}}}}",
            "environments/base.yaml": "defaults: {settings: {o: {a: 1, b: 2}, l: [1], back: 1}, features: {f: true}}",
            "environments/dev.yaml": (
                "defaults: {settings: {gone: null, back: null, o: {b: null, c: 3}, l: [3]}, features: null}\n"
                "services: {bell: {settings: {back: 9}}}"
            ),
        }
    )
    document = merged(read(home))
    assert find(document, "/settings") == {"kept": 2, "o": {"a": 1, "c": 3}, "l": [3], "back": 9}
    assert isinstance(document, dict)
    assert "features" not in document


def test_edits_count_as_if_they_were_written(write: Write):
    """A file that is there, and one that is not."""
    home = write({"environments/dev.yaml": "services: {bell: {settings: {a: 1}}}"})
    edits = {
        home / "environments/dev.yaml": "services: {lamp: {}}",
        home / "environments/prod.yaml": "services: {door: {}}",
        home / "schemas/lamp.yaml": "title: lamp",
    }
    sources = load(environments_dir=home / "environments", schemas_dir=home / "schemas", variables={}, edits=edits)
    assert {name: set(found.services) for name, found in sources.environments.items()} == {
        "dev": {"lamp"},
        "prod": {"door"},
    }
    assert list(sources.schemas) == ["lamp"]


def test_the_lowest_layer_says_who_the_document_is_for(write: Write):
    """Names and the user name at the broker, which a schema or a file may say otherwise."""
    schema = "properties: {mqtt_config: {properties: {username: {type: string, default: from_schema}}}}"
    files = {"schemas/lamp.yaml": schema, "environments/dev.yaml": "services: {bell: {mqtt_config: {host: h}}}"}
    sources = read(write(files))
    document = sources.defaults("dev", "bell")
    assert (document["service_name"], document["environment"]) == ("bell", "dev")
    assert document["mqtt_config"] == {"username": "bell", "tls_enabled": False, "keepalive": 60}
    assert "mqtt_config" not in sources.defaults("dev", "door")
    assert find(sources.defaults("dev", "lamp"), "/mqtt_config/username") == "from_schema"


def test_a_service_is_known_by_being_named_even_with_nothing_said(write: Write):
    """In any of the files, with an empty section too; defaults alone name nobody."""
    home = write(
        {
            "environments/base.yaml": "services:\n  a:\n  b: {}\n",
            "environments/dev.yaml": "services: {c: {settings: {x: 1}}}",
            "environments/prod.yaml": "defaults: {settings: {x: 1}}",
            "environments/prod-secrets.yaml": "services: {d: }",
        }
    )
    environments = read(home).environments
    assert environments["dev"].services == {"a", "b", "c"}
    assert environments["prod"].services == {"a", "b", "d"}


def test_environments_are_found_by_their_files(write: Write):
    """Not base, access, hidden files and other suffixes; each lists its own files, lowest first."""
    home = write(
        {
            "environments/base.yaml": "",
            "environments/access.yaml": "admins: [operator]",
            "environments/dev.yaml": "",
            "environments/dev-secrets.yaml": "",
            "environments/only-secrets.yaml": "",
            "environments/.hidden.yaml": "[",
            "environments/dev.yaml.example": "[",
            "environments/README.md": "[",
        }
    )
    environments = read(home).environments
    assert {name: [file.file for file in found.files] for name, found in environments.items()} == {
        "dev": ["environments/base.yaml", "environments/dev.yaml", "environments/dev-secrets.yaml"],
        "only": ["environments/base.yaml", "environments/only-secrets.yaml"],
    }


def test_without_a_base_there_are_still_environments(write: Write):
    """base.yaml is a file like others: missing is not broken."""
    home = write({"environments/dev.yaml": "services: {bell: {settings: {x: 1}}}"})
    assert [file.file for file in read(home).environments["dev"].files] == ["environments/dev.yaml"]


@pytest.mark.parametrize("file", ["base", "prod", "prod-secrets"])
def test_an_environment_is_protected_if_any_of_its_files_says_so(write: Write, file: str):
    """Base protects all, a file of its own only its environment."""
    home = write({"environments/dev.yaml": "", "environments/prod.yaml": "", f"environments/{file}.yaml": ""})
    assert not read(home).environments["prod"].protected
    write({f"environments/{file}.yaml": "protected: true"})
    environments = read(home).environments
    assert environments["prod"].protected
    assert environments["dev"].protected == (file == "base")


def test_numbers_in_files_are_those_of_documents(write: Write):
    """1883.0 in a file is the integer that a write would have."""
    home = write({"environments/dev.yaml": "services: {bell: {mqtt_config: {port: 1883.0}, settings: {l: [2.0]}}}"})
    document = merged(read(home))
    assert repr(find(document, "/mqtt_config/port")) == "1883"
    assert repr(find(document, "/settings/l")) == "[2]"


@pytest.mark.parametrize("file", ["dev", "dev-secrets"])
@pytest.mark.parametrize(
    ("text", "line", "pointer"),
    [
        ("defaults: {}\nservces: {bell: {}}\n", 2, "/servces"),
        ("\nservices:\n  bell: {}\n  a b: {}\n", 4, "/services/a b"),
        ("services:\n  get: {}\n", 2, "/services/get"),
        ("services:\n  a/b: {}\n", 2, "/services/a~1b"),
        ("services:\n  bell: 5\n", 2, "/services/bell"),
        ("services: [bell]\n", 1, "/services"),
        ("defaults: text\n", 1, "/defaults"),
        ("protected: 'true'\n", 1, "/protected"),
        ("protected:\n", 1, "/protected"),
        ("a: 1\na: 2\n", 2, "/a"),
        ("services:\n  bell: {settings: {x: '${MISSING_ONE}'}}\n", 2, "/services/bell/settings/x"),
        ("services:\n  bell: {x: [}\n", 2, ""),
        ("- a\n", None, ""),
        ("just text\n", None, ""),
    ],
)
def test_a_broken_file_breaks_its_own_environment_only(
    write: Write, file: str, text: str, line: int | None, pointer: str
):
    """The problem names file, line and place; the other environments are as good as before."""
    home = write(
        {
            "environments/base.yaml": "services: {bell: {settings: {x: 1}}}",
            "environments/dev.yaml": "",
            "environments/prod.yaml": "",
            f"environments/{file}.yaml": text,
        }
    )
    environments = read(home).environments
    problem = environments["dev"].problems[0]
    assert (problem.file, problem.line, problem.pointer) == (f"environments/{file}.yaml", line, pointer)
    assert str(problem).startswith(f"environments/{file}.yaml")
    assert environments["prod"].problems == ()
    assert find(merged(read(home), "prod"), "/settings/x") == 1


def test_all_problems_of_both_files_of_an_environment_are_told(write: Write):
    """Not only the first of the first."""
    home = write(
        {
            "environments/dev.yaml": "x: 1\ny: 1\nz: 1\nservices: {set: {}, reply: 1}\nprotected: 1\n",
            "environments/dev-secrets.yaml": "defaults: '${A_MISSING}${B_MISSING}'\n",
        }
    )
    problems = read(home).environments["dev"].problems
    pointers = [problem.pointer for problem in problems if problem.file == "environments/dev.yaml"]
    assert pointers[:3] == ["/x", "/y", "/z"]
    assert sorted(pointers[3:]) == ["/protected", "/services/reply", "/services/reply", "/services/set"]
    told = " ".join(str(problem) for problem in problems if problem.file == "environments/dev-secrets.yaml")
    assert "A_MISSING" in told
    assert "B_MISSING" in told


@pytest.mark.parametrize("text", ["services: [", "unknown: 1", "services: {get: {}}", "defaults: '${NOT_SET}'"])
def test_a_broken_base_breaks_everything(write: Write, text: str):
    """Every environment is built on it, so nothing can be used."""
    home = write({"environments/base.yaml": text, "environments/dev.yaml": ""})
    assert {problem.file for problem in refused(home)} == {"environments/base.yaml"}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("environments/dev.yml", "rename"),
        ("environments/base-secrets.yaml", "base"),
        ("environments/access-secrets.yaml", "access"),
        ("environments/a b.yaml", "a b"),
        ("environments/-dev.yaml", "-dev"),
        ("schemas/bell.yml", "rename"),
        ("schemas/get.yaml", "get"),
        ("schemas/a b.json", "a b"),
    ],
)
def test_files_whose_names_cannot_be_right_are_refused_by_name(write: Write, name: str, word: str):
    """Skipping them in silence would leave somebody wondering why nothing happens."""
    (problem,) = refused(write({name: ""}))
    assert problem.file == name
    assert word in problem.message


@pytest.mark.parametrize("missing", ["environments", "schemas"])
def test_a_directory_that_is_not_there_is_a_problem_of_everything(write: Write, missing: str):
    """An empty home would otherwise look like an answer."""
    home = write({})
    (home / missing).rmdir()
    (problem,) = refused(home)
    assert str(home / missing) in problem.message


@pytest.mark.parametrize("kind", ["latin-1", "directory", "dangling link"])
def test_files_that_cannot_be_read_are_problems_like_others(write: Write, kind: str):
    """Not UTF-8, not a file, not there behind its link."""
    home = write({"environments/base.yaml": "", "environments/prod.yaml": ""})
    path = home / "environments" / "dev.yaml"
    if kind == "latin-1":
        path.write_bytes(b"defaults: {settings: {x: \xe9}}")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(home / "nowhere")
    environments = read(home).environments
    assert [problem.file for problem in environments["dev"].problems] == ["environments/dev.yaml"]
    assert environments["prod"].problems == ()


def test_a_directory_may_have_any_name(tmp_path: Path):
    """The home's directories, there or not: messages about them can be shown."""
    odd = tmp_path / os.fsdecode(b"home\xff\n")
    environments = odd / "environments"
    with pytest.raises(SourceError) as caught:
        load(environments_dir=environments, schemas_dir=odd, variables={})
    assert all(str(problem).isprintable() for problem in caught.value.problems)
    environments.mkdir(parents=True)
    (odd / "bell.yaml").write_text("[")
    with pytest.raises(SourceError) as caught:
        load(environments_dir=environments, schemas_dir=odd, variables={})
    (problem,) = caught.value.problems
    assert problem.file == r"home\xff\u000a/bell.yaml"


UNTYPED = {"bytes": b"caf\xe9.yaml", "newline": b"a\nb.yaml", "escape": b"\x1b[2J.yaml", "end": b"dev.yaml\n"}
PLACES = ("environments", "schemas", "schemas/bell/migrations")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", UNTYPED)
@pytest.mark.parametrize("kind", ["file", "directory", "link to nothing", "pipe"])
def test_files_whose_names_nobody_can_have_typed_are_set_aside(write: Write, place: str, name: str, kind: str):
    """Whatever they are: each is named in a form that can be shown, and the rest is used."""
    home = write({"environments/dev.yaml": "services: {bell: {}}"})
    (home / place).mkdir(parents=True, exist_ok=True)
    path = Path(os.fsdecode(os.fsencode(home / place) + b"/" + UNTYPED[name]))
    if kind == "file":
        path.write_text("services: {lamp: {}}")
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("nowhere")
    sources = read(home)
    (problem,) = sources.set_aside
    assert problem.file.startswith(f"{place}/")
    assert problem.file.isprintable()
    assert sources.environments.keys() == {"dev"}


def test_migrations_of_a_service_nobody_can_have_typed_are_set_aside(write: Write):
    """The directory is named."""
    home = write({"environments/dev.yaml": ""})
    Path(os.fsdecode(os.fsencode(home / "schemas") + b"/\xff/migrations")).mkdir(parents=True)
    (problem,) = read(home).set_aside
    assert problem.file == r"schemas/\xff/migrations/"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "kind", ["directory", "link to nothing", "link to itself", "pipe", "socket", "huge", "latin-1"]
)
def test_whatever_is_in_the_place_of_a_file_is_a_problem_that_names_it(write: Write, place: str, kind: str):
    """Nothing of it blocks the load or ends it with another error."""
    home = write({"environments/dev.yaml": "services: {bell: {}}", "environments/prod.yaml": ""})
    (home / place).mkdir(parents=True, exist_ok=True)
    path = home / place / ("1-to-2.yaml" if "migrations" in place else "prod.yaml")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(path.parent):
        if kind == "directory":
            path.mkdir()
        elif kind.startswith("link"):
            path.symlink_to(path.name if kind == "link to itself" else "nowhere")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(path.name)
        elif kind == "huge":
            with path.open("wb") as file:
                file.truncate(300 * 1024 * 1024)
        else:
            path.write_bytes(b"a: caf\xe9\n")
        found = read(home).environments["prod"].problems if place == "environments" else refused(home)
    assert [problem.file for problem in found] == [f"{place}/{path.name}"]


def test_names_in_the_access_rules_are_not_compared_with_files_that_cannot_be_read(write: Write):
    """The service that the rules name may be in the broken file; its own problem is the only one."""
    home = write(
        {
            "environments/base.yaml": "services: {bell: {}}",
            "environments/prod.yaml": "services: {lamp: {}}",
            "environments/access.yaml": "services: {lamp: {read: {allowed_services: [chime]}}}",
        }
    )
    assert {problem.line for problem in refused(home)} == {1}
    write({"environments/prod.yaml": "services: {lamp: [}"})
    sources = read(home)
    assert [problem.file for problem in sources.environments["prod"].problems] == ["environments/prod.yaml"]
    assert sources.access is not None
    write({"environments/base.yaml": "services: {bell: [}"})
    assert {problem.file for problem in refused(home)} == {"environments/base.yaml"}


def test_variables_are_replaced_in_environment_files_only(write: Write):
    """An unquoted variable takes its YAML type, a quoted one is a string; a schema keeps its ${…}."""
    home = write(
        {
            "environments/dev.yaml": "defaults:\n  settings:\n    a: ${N}\n    b: '${N}'\n    c: ${M:-x}\n",
            "schemas/bell.yaml": "properties: {settings: {properties: {p: {type: string, default: '${N}'}}}}",
        }
    )
    document = merged(read(home, {"N": "8"}))
    assert find(document, "/settings") == {"p": "${N}", "a": 8, "b": "8", "c": "x"}


def test_schemas_are_read_from_yaml_and_json(write: Write):
    """Both are taken; a service without a file has the base contract alone."""
    home = write(
        {
            "schemas/bell.yaml": "version: 2.0.0\nproperties: {settings: {properties: {x: {default: 1}}}}",
            "schemas/lamp.json": '{"version":"3.0.0","properties":{"settings":{"properties":{"x":{"default":2}}}}}',
            "schemas/README.md": "not a schema",
        }
    )
    (home / "schemas" / "bell").mkdir()
    sources = read(home)
    assert {name: schema.version for name, schema in sources.schemas.items()} == {"bell": "2.0.0", "lamp": "3.0.0"}
    assert sources.defaults("dev", "lamp")["settings"] == {"x": 2}
    assert "settings" not in sources.defaults("dev", "other")


def test_a_service_cannot_have_two_schemas(write: Write):
    """Which one counts could not be said, so neither does."""
    (problem,) = refused(write({"schemas/bell.yaml": "{}", "schemas/bell.json": "{}"}))
    assert problem.file.startswith("schemas/bell.")
    assert ".json and .yaml" in problem.message


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_what_is_wrong_with_a_schema_has_its_line(write: Write, ending: str):
    """All of it, in every schema file, each with file, line and pointer."""
    text = (
        '{"properties": {\n  "settings": {"properties": {\n    "a": {"type": "integer", "x-sensitive": true},\n'
        '    "b": {"$ref": "http://x/"}\n  }}\n}}'
    )
    home = write({f"schemas/bell.{ending}": text, "schemas/lamp.yaml": "\n\nversion: 1\n"})
    assert {(problem.file, problem.line, problem.pointer) for problem in refused(home)} == {
        (f"schemas/bell.{ending}", 3, "/properties/settings/properties/a/x-sensitive"),
        (f"schemas/bell.{ending}", 4, "/properties/settings/properties/b/$ref"),
        ("schemas/lamp.yaml", 3, "/version"),
    }


def test_everything_wrong_everywhere_is_told_in_one_go(write: Write):
    """Base, schemas and names of files, so that one round of corrections is enough."""
    home = write(
        {"environments/base.yaml": "x: 1", "environments/a.yml": "", "schemas/b.yaml": "[]", "schemas/c.yml": ""}
    )
    assert {problem.file for problem in refused(home)} == {
        "environments/base.yaml",
        "environments/a.yml",
        "schemas/b.yaml",
        "schemas/c.yml",
    }


LOCATED = {
    "environments/base.yaml": "defaults:\n  api_config:\n    port: 1\nservices:\n  bell:\n    settings:\n      a: 1\n",
    "environments/dev.yaml": "services:\n  bell:\n    settings:\n      b/c: [1,\n        2]\n  empty:\n",
    "environments/dev-secrets.yaml": "\ndefaults:\n  mqtt_config:\n    password: x\n",
}


@pytest.mark.parametrize(
    ("service", "pointer", "expected"),
    [
        ("bell", "/settings/a", ("environments/base.yaml", 7)),
        ("bell", "/settings/b~1c", ("environments/dev.yaml", 4)),
        ("bell", "/settings/b~1c/1", ("environments/dev.yaml", 5)),
        ("bell", "/settings/b~1c/7", ("environments/dev.yaml", 4)),
        ("bell", "/settings/missing/deep", ("environments/dev.yaml", 3)),
        ("bell", "/api_config/port", ("environments/base.yaml", 3)),
        ("bell", "/mqtt_config/password", ("environments/dev-secrets.yaml", 4)),
        ("bell", "/mqtt_config/host", ("environments/dev-secrets.yaml", 3)),
        ("bell", "/features", ("environments/dev.yaml", 2)),
        ("bell", "", ("environments/dev.yaml", 2)),
        ("stranger", "/api_config/port", ("environments/base.yaml", 3)),
        ("stranger", "/settings", ("environments/dev.yaml", None)),
    ],
)
def test_a_place_is_located_in_the_file_that_decides_it(
    write: Write, service: str, pointer: str, expected: tuple[str, int | None]
):
    """The highest layer that says something about it, else about what is around it; at last the environment's file."""
    environment = read(write(LOCATED)).environments["dev"]
    assert environment.locate(service, pointer) == expected


def test_layers_know_their_file_section_and_lines(write: Write):
    """What explain and the messages are made of."""
    layers = read(write(LOCATED)).environments["dev"].layers("bell")
    assert [(layer.file, layer.section) for layer in layers] == [
        ("environments/base.yaml", "defaults"),
        ("environments/dev-secrets.yaml", "defaults"),
        ("environments/base.yaml", "services"),
        ("environments/dev.yaml", "services"),
    ]
    assert [layer.line("/settings") for layer in layers] == [None, None, 6, 3]


def test_the_watched_files_are_those_that_would_be_read(write: Write):
    """Every one that load would look at or complain about, whatever is wrong with it; none of a missing directory."""
    home = write(
        {"environments/base.yaml": "[", "environments/a.yml": "", "schemas/b.json": "{", "schemas/README.md": ""}
    )
    (home / "environments" / "dev.yaml").symlink_to("nowhere")
    directories = {"environments_dir": home / "environments", "schemas_dir": home / "schemas"}
    assert {path.name for path in source_paths(**directories)} == {"base.yaml", "a.yml", "b.json", "dev.yaml"}
    assert source_paths(environments_dir=home / "no", schemas_dir=home / "none") == []


def test_only_the_schema_that_changed_is_parsed_again(write: Write):
    """The others are those of the load before, as long as these are in use; equal texts of two services are two."""
    schema = "properties: {{settings: {{properties: {{size: {{default: {}}}}}}}}}\n"
    home = write({f"schemas/{name}.yaml": schema.format(1) for name in ("bell", "gate")})
    before = read(home).schemas
    write({"schemas/bell.yaml": schema.format(2)})
    after = read(home).schemas
    assert (after["gate"] is before["gate"], after["bell"] is before["bell"]) == (True, False)
    assert [after[name].defaults["settings"] for name in ("bell", "gate")] == [{"size": 2}, {"size": 1}]
    assert before["bell"] is not before["gate"]
    write({"schemas/bell.yaml": schema.format(1)})
    assert read(home).schemas["bell"] is before["bell"]


def test_schemas_that_are_out_of_use_are_not_kept(write: Write):
    """An edit does not make the daemon larger."""
    found = weakref.ref(read(write({"schemas/bell.yaml": "properties: {}\n"})).schemas["bell"])
    gc.collect()
    assert found() is None

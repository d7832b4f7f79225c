"""The access list with which a Mosquitto proves who asks: the output of ``aliciacfg acl``.

The last level of a request topic names the requester. Under this list each user of the broker may publish exactly the
requests that the rules allow it, under its own name; it reads the answers to them and the configurations that
it may read. Everything outside ``alicia/config/``, ``alicia/reply/`` and the daemon's health stays as free as before:
other programs of the home keep their topics.

Where Home Assistant sees the home, its account may send commands, and read devices, states and events. It may send no
request, even if rules name it: what it may change is decided for each command.

Mosquitto 2.0 to 2.1 reads such a file in this order: first the lines of the user, then the patterns, ``deny`` first in
either; the first line that matches counts, and a topic that no line matches is denied. So a user's own lines beat the
three denials, and these beat the pattern that opens the rest. A subscription is always granted, and each message is
checked when it is delivered. Names are proven without ``%u``: with it, a user called ``voice_router/admin`` would pass
for ``admin``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec import structs

from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Access, Need
from aliciacfg.api.fields import SOURCE
from aliciacfg.bus import topic_names
from aliciacfg.errors import InvalidRequest
from aliciacfg.model import names
from aliciacfg.mqtt import topics
from aliciacfg.operations.table import OPERATIONS, Operation

_ANY = "+"
_HEAD = """\
# Made by `aliciacfg acl` from environments/access.yaml; make it anew when services, users or rules change.
# mosquitto.conf: allow_anonymous false, password_file (`aliciacfg acl --passwords`), acl_file with this file.
# Mosquitto warns of patterns without %u at the end of this file; that is as it should be.
"""
# Older programs of the home exchange messages about configurations here; neither word is an operation.
_OTHERS = (f"{topics.CONFIG}global/#", f"{topics.CONFIG}service/#")
# Whole trees, not each operation: this list stays right when the daemon gets another operation.
_PROTECTED = (f"{topics.CONFIG}#", f"{topics.REPLY}#", topics.HEALTH)


@dataclass(frozen=True, slots=True)
class HomeAssistant:
    """Home Assistant at the broker.

    Attributes:
        user: Its account.
        caller: Its name in the access rules.
        prefix: Where it looks for devices.
    """

    user: str
    caller: str
    prefix: str

    @property
    def devices(self) -> str:
        """What the topics of our device messages begin with."""
        return f"{self.prefix}/device/{topic_names.HA_NODE}/"


def access_list(access: Access, *, daemon: str = SOURCE, home_assistant: HomeAssistant | None = None) -> str:
    """Return the text of the access list; without any rules, each service may do what it always may.

    Args:
        access: The rules.
        daemon: The broker's user that this daemon connects as.
        home_assistant: Home Assistant; None where it does not see the home.

    Raises:
        InvalidRequest: The daemon's user cannot be a requester; or Home Assistant's account is that of another program.
    """
    if problem := names.caller_problem(daemon):
        raise InvalidRequest(f"{problem}; set MQTT_USERNAME.")
    access = structs.replace(access, enforced=True)
    apart = {daemon}
    if home_assistant is not None:
        if problem := _account_problem(access, daemon, home_assistant):
            raise InvalidRequest(f"ALICIACFG_HOME_ASSISTANT_USER: {problem}.")
        apart |= {home_assistant.user, home_assistant.caller}
    sections = [_section(daemon, [*_daemon_lines(home_assistant), *_user_lines(access, daemon)])]
    if home_assistant is not None:
        sections.append(_section(home_assistant.user, _home_assistant_lines(home_assistant)))
    sections += [_section(user, _user_lines(access, user)) for user in access.names if user not in apart]
    return "\n".join([_HEAD, *sections, "\n".join(_bus_lines(home_assistant)), ""])


def command_probe_topic(instance: str) -> str:
    """Return the topic on which the daemon tries whether only Home Assistant can send commands; as ``probe_topic``."""
    return f"{topic_names.HA_SET}{SOURCE}/probe_{instance}"


def _account_problem(access: Access, daemon: str, home_assistant: HomeAssistant) -> str | None:
    """Return why Home Assistant cannot have its account, or None.

    Its caller may be an administrator: it then sees and changes everything, but by commands alone.
    """
    user = home_assistant.user
    if problem := names.caller_problem(user):
        return problem
    if user in {daemon, *access.services} or (user in access.admins and user != home_assistant.caller):
        return f"{user} is the account of a service or an administrator; give Home Assistant one of its own"
    return None


def probe_topic(instance: str) -> str:
    """Return the topic on which the daemon tries whether the list is in force; if it is, no message there is delivered.

    It is a request in the name of another requester, which the list forbids to every user. The daemon must not answer
    it.

    Args:
        instance: Names the daemon's data directory, and with it the requester.
    """
    return f"{topics.CONFIG}get/{SOURCE}/probe_{instance}"


def _section(user: str, lines: Iterable[str]) -> str:
    return "\n".join([f"user {user}", *dict.fromkeys(lines), ""])


def _bus_lines(home_assistant: HomeAssistant | None) -> Iterator[str]:
    """Yield the lines for every user, also for those that the rules do not name."""
    further = () if home_assistant is None else (f"{topic_names.HA}#", f"{home_assistant.devices}#")
    for tree in (*_PROTECTED, *further):
        yield f"pattern deny {tree}"
    yield "pattern readwrite #"
    # "#" does not match it; what a broker publishes about itself was open before.
    yield "pattern read $SYS/#"


def _daemon_lines(home_assistant: HomeAssistant | None) -> Iterator[str]:
    """Yield the lines for what the daemon does besides sending requests."""
    yield f"topic read {topics.CONFIG}#"
    for published in (f"{topics.UPDATE}{_ANY}", topics.ENVIRONMENT, topics.KEY, f"{topics.ALERT}#"):
        yield f"topic write {published}"
    yield f"topic write {topics.REPLY}#"
    yield f"topic read {topics.REPLY}{SOURCE}/#"
    yield f"topic readwrite {topics.HEALTH}"
    if home_assistant is not None:
        yield f"topic read {topic_names.HA_SET}#"
        for retained in _shown(home_assistant):
            yield f"topic readwrite {retained}"
        yield f"topic write {topic_names.HA_EVENT}{_ANY}"


def _home_assistant_lines(home_assistant: HomeAssistant) -> Iterator[str]:
    """Yield the lines for the account of Home Assistant."""
    yield f"topic write {topic_names.HA_SET}#"
    for shown in (*_shown(home_assistant), f"{topic_names.HA_EVENT}{_ANY}"):
        yield f"topic read {shown}"


def _shown(home_assistant: HomeAssistant) -> tuple[str, ...]:
    """Return the filters of what the daemon retains for Home Assistant."""
    return f"{home_assistant.devices}{_ANY}/config", f"{topic_names.HA_STATE}{_ANY}", topic_names.HA_AVAILABILITY


def _user_lines(access: Access, user: str) -> Iterator[str]:
    """Yield the lines for one user, also for the daemon's."""
    caller = Caller(user, "mqtt", proven=True)
    requests = list(_requests(access, caller))
    for request in requests:
        yield f"topic write {topics.CONFIG}{request}"
    yield f"topic read {topics.REPLY}{user}/#"
    for request in requests:
        yield f"topic read {topics.REPLY}{_default_answer(request)}"
    for service in _services(access, caller, "read"):
        yield f"topic read {topics.UPDATE}{service}"
    for public in (topics.ENVIRONMENT, topics.KEY, topics.HEALTH):
        yield f"topic read {public}"
    if user in access.services:
        yield f"topic write {topics.APPLIED}{user}"
    if access.administers(caller):
        yield f"topic read {topics.ALERT}#"
        yield f"topic read {topics.APPLIED}{_ANY}"
    for other in _OTHERS:
        yield f"topic readwrite {other}"


def _requests(access: Access, caller: Caller) -> Iterator[str]:
    """Yield each request topic, after ``alicia/config/``, that a user may publish on."""
    for operation in OPERATIONS:
        for target in _targets(access, caller, operation):
            yield "/".join([operation.name, *target, str(caller.name)])
            if target == [caller.name]:
                # Without a requester, an operation on a service is that service's own.
                yield f"{operation.name}/{caller.name}"


def _targets(access: Access, caller: Caller, operation: Operation) -> list[list[str]]:
    """Return the targets that a user may name in an operation's topic, as lists of topic levels.

    One level for each service, or for any environment; one empty list for an operation about everything; no list where
    the user may not ask.
    """
    if operation.name == "health":
        # Its topic is not under alicia/config/.
        return []
    if operation.target == "service":
        return [[service] for service in _services(access, caller, operation.needs)]
    if not access.allows(caller, operation.needs):
        return []
    return [[]] if operation.target is None else [[_ANY]]


def _services(access: Access, caller: Caller, need: Need) -> list[str]:
    """Return the services on which a user has what is needed; a wildcard for administrators."""
    allowed = [service for service in access.services if access.allows(caller, need, service)]
    if access.administers(caller):
        return [_ANY, *(service for service in allowed if service == caller.name)]
    return allowed


def _default_answer(request: str) -> str:
    """Return the default answer topic of a request, after ``alicia/reply/``, as a filter."""
    operation, *target, requester = request.split("/")
    return "/".join([operation, *(_ANY for _ in target), requester])

"""The access list that makes a Mosquitto prove who asks: what ``aliciacfg acl`` prints.

The last level of a request topic names the requester. Under this list each user of the broker may publish exactly the
requests that ``Access.decide`` allows it, under its own name; it reads the answers to them and the configurations that
it may read. Everything outside ``alicia/config/``, ``alicia/reply/`` and the daemon's health stays as free as before:
other programs of the home keep their topics.

How Mosquitto reads such a file, 2.0 to 2.1: first the lines of the user, then the patterns, ``deny`` first in either;
the first that matches counts; what none matches is denied. So a user's own lines beat the three denials, and these
beat the pattern that opens the rest. A subscription is always granted, and each message checked when it is delivered.
Lines with ``%u`` are not used for what a name proves: a user called ``voice_router/admin`` would prove to be ``admin``.
"""

from collections.abc import Iterable, Iterator

from msgspec import structs

from aliciacfg.access.caller import Caller
from aliciacfg.access.rules import Access, Need
from aliciacfg.api.fields import SOURCE
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
# Older programs of the home tell each other of configurations here; neither word is an operation.
_OTHERS = (f"{topics.CONFIG}global/#", f"{topics.CONFIG}service/#")
# Whole trees, not the operations there are: this list stays right when the daemon learns another.
_PROTECTED = (f"{topics.CONFIG}#", f"{topics.REPLY}#", topics.HEALTH)


def access_list(access: Access, *, daemon: str = SOURCE) -> str:
    """The text of the access list; without any rules, what every service may do by itself.

    Args:
        access: The rules.
        daemon: The broker's user that this daemon connects as.

    Raises:
        InvalidRequest: The daemon cannot have that name.
    """
    if problem := names.requester_problem(daemon):
        raise InvalidRequest(f"{problem}; set MQTT_USERNAME.")
    access = structs.replace(access, enforced=True)
    sections = [_section(daemon, [*_daemon_lines(), *_user_lines(access, daemon)])]
    sections += [_section(user, _user_lines(access, user)) for user in access.names if user != daemon]
    return "\n".join([_HEAD, *sections, "\n".join(_bus_lines()), ""])


def probe_topic(instance: str) -> str:
    """Where the daemon publishes to find out whether the list is in force: delivered means that it is not.

    A request in the name of somebody else, which the list forbids the daemon as it does everybody. The daemon must
    not answer it.

    Args:
        instance: Of the daemon; makes the requester's name.
    """
    return f"{topics.CONFIG}get/{SOURCE}/probe_{instance}"


def _section(user: str, lines: Iterable[str]) -> str:
    return "\n".join([f"user {user}", *dict.fromkeys(lines), ""])


def _bus_lines() -> Iterator[str]:
    """What holds for every user, and for those the rules do not know."""
    for tree in _PROTECTED:
        yield f"pattern deny {tree}"
    yield "pattern readwrite #"
    # "#" does not match it; what a broker tells about itself was open before.
    yield "pattern read $SYS/#"


def _daemon_lines() -> Iterator[str]:
    """What the daemon does besides asking like everybody."""
    yield f"topic read {topics.CONFIG}#"
    for said in (f"{topics.UPDATE}{_ANY}", topics.ENVIRONMENT, topics.KEY, f"{topics.ALERT}#"):
        yield f"topic write {said}"
    yield f"topic write {topics.REPLY}#"
    yield f"topic read {topics.REPLY}{SOURCE}/#"
    yield f"topic readwrite {topics.HEALTH}"


def _user_lines(access: Access, user: str) -> Iterator[str]:
    """What one user may do."""
    caller = Caller(user, "mqtt", proven=True)
    requests = list(_requests(access, caller))
    for request in requests:
        yield f"topic write {topics.CONFIG}{request}"
    yield f"topic read {topics.REPLY}{user}/#"
    for request in requests:
        yield f"topic read {topics.REPLY}{_default_answer(request)}"
    for service in _services(access, caller, "read"):
        yield f"topic read {topics.UPDATE}{service}"
    for told in (topics.ENVIRONMENT, topics.KEY, topics.HEALTH):
        yield f"topic read {told}"
    if user in access.services:
        yield f"topic write {topics.APPLIED}{user}"
    if access.administers(caller):
        yield f"topic read {topics.ALERT}#"
        yield f"topic read {topics.APPLIED}{_ANY}"
    for other in _OTHERS:
        yield f"topic readwrite {other}"


def _requests(access: Access, caller: Caller) -> Iterator[str]:
    """Each request topic, after ``alicia/config/``, that a user may publish on."""
    for operation in OPERATIONS:
        for target in _targets(access, caller, operation):
            yield "/".join([operation.name, *target, str(caller.name)])
            if target == [caller.name]:
                # Without a requester, an operation on a service is that service's own.
                yield f"{operation.name}/{caller.name}"


def _targets(access: Access, caller: Caller, operation: Operation) -> list[list[str]]:
    """What a user may name in an operation's topic: a service, any environment, or nothing; empty: it may not."""
    if operation.name == "health":
        # Its topic is outside.
        return []
    if operation.target == "service":
        return [[service] for service in _services(access, caller, operation.needs)]
    if not access.allows(caller, operation.needs):
        return []
    return [[]] if operation.target is None else [[_ANY]]


def _services(access: Access, caller: Caller, need: Need) -> list[str]:
    """The services on which a user may do what needs ``need``; a wildcard for administrators."""
    allowed = [service for service in access.services if access.allows(caller, need, service)]
    if access.administers(caller):
        return [_ANY, *(service for service in allowed if service == caller.name)]
    return allowed


def _default_answer(request: str) -> str:
    """Where the answer to a request goes that names no answer topic, after ``alicia/reply/``."""
    operation, *target, requester = request.split("/")
    return "/".join([operation, *(_ANY for _ in target), requester])

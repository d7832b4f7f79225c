"""The defaults of an environment, merged once for all services: most of a configuration comes from them."""

from aliciacfg.documents import JsonObject, merge
from aliciacfg.sources.layers import BROKER, Environment, Sources

# Stands for the name of a service; found by identity, so that no text of a file is mistaken for it.
_NAME = "(the name of the service)"


class SharedDefaults:
    """What the files of one moment give every service of an environment that has no schema of its own.

    Merging the same defaults for each of 10,000 services took a tenth of a start, and the results two kilobytes each:
    now configurations share the objects that no other layer changes. So nothing may change a configuration in place.

    It is kept for each environment of the files, which are not replaced while this lives.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._merged: dict[str, JsonObject] = {}

    def of(self, environment: Environment, service: str) -> JsonObject | None:
        """Return the defaults of a service; None if they may be others than those of the other services.

        Args:
            environment: The environment. Its files hold no sealed values in their defaults: such a value is opened for
                one service.
            service: The service.
        """
        if service in self._sources.schemas or environment.name not in self._sources.environments:
            return None
        merged = self._merged.get(environment.name)
        if merged is None:
            merged = self._merged[environment.name] = self._merge(environment)
        if BROKER not in merged and any(layer.names_broker for layer in environment.own_layers(service)):
            return None
        return _named(merged, service)

    def _merge(self, environment: Environment) -> JsonObject:
        merged = self._sources.defaults(environment.name, _NAME)
        for layer in environment.default_layers:
            merged = merge(merged, layer.patch)
        return merged


def _named(merged: JsonObject, service: str) -> JsonObject:
    """Return merged defaults with the name of a service wherever ``Sources.defaults`` puts it, unless replaced."""
    named = dict(merged)
    if named.get("service_name") is _NAME:
        named["service_name"] = service
    broker = named.get(BROKER)
    if isinstance(broker, dict) and broker.get("username") is _NAME:
        named[BROKER] = {**broker, "username": service}
    return named

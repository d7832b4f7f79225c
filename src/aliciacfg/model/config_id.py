"""What identifies one configuration."""

from typing import NamedTuple


class ConfigId(NamedTuple):
    """The identity of one configuration: a service in an environment.

    Being a tuple, it is hashable, sorts by environment first, and equals ``(environment, service)``.

    Attributes:
        environment: The environment's name, such as ``production``.
        service: The service's name, such as ``lighting``.
    """

    environment: str
    service: str

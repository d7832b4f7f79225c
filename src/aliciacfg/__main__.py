"""``python -m aliciacfg``"""

from aliciacfg.cli import main

main()

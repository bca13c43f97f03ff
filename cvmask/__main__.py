"""python -m cvmask"""

import sys

from cvmask.cli.main import main

sys.exit(main())

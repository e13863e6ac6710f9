import sys

from shoal.main import main

sys.exit(main())

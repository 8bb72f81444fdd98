import sys

from studio.client.transfer import main

sys.exit(main(sys.argv[1:]))

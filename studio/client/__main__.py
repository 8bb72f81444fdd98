import sys

from studio.client.file_transfer import main

sys.exit(main(sys.argv[1:]))

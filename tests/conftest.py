"""Set-up of every test session."""

import signal

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)

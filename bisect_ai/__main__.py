"""The program: `bisect-ai`, and `python -m bisect_ai`."""

import gc
import signal

# Imports make many objects and no garbage: looking for it was a tenth of a short command. A run looks more often (SELDOM).
gc.set_threshold(500_000, 20, 20)

# Until there is something to keep, a signal ends the process without Python's traceback.
for _name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, _name):
        signal.signal(getattr(signal, _name), signal.SIG_DFL)

from bisect_ai.cli import main  # noqa: E402  # the imports are what takes long

__all__ = ["main"]

if __name__ == "__main__":
    main()

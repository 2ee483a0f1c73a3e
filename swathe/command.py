"""The ``swathe`` command: hands over to the command line of the repository, where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
import sys


def main() -> None:
    """Run the command line. The wheel of the light client has none and says where it is."""
    if importlib.util.find_spec("serve") is None:
        sys.stderr.write("swathe: this is the light client; the command line needs the repository (see its README)\n")
        raise SystemExit(2)
    # By name, as nothing on the ground floor may import from above.
    importlib.import_module("serve.cli.main").main()


if __name__ == "__main__":
    main()

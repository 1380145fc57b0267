"""``make bench``: every measurement of this folder, one after the other, each side by side with its yardstick.

python -m bench              all of them, about four minutes
python -m bench end_to_end   one
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent

#: In the order of the road: the typesetter alone, our pool, the whole way over HTTP, and the bytes back.
PARTS: dict[str, list[str]] = {
    "bare_typst": [],
    "typesetting": [],
    "end_to_end": [],
    "download_store": [],
}


def main() -> int:
    """Run the parts that were named, or all; the first exit code that is not zero."""
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"bench: there is no {unknown[0]}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 64
    worst = 0
    for name in wanted:
        print(f"== {name} ({time.strftime('%Y-%m-%d')})", flush=True)
        done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *PARTS[name]], check=False)
        worst = worst or done.returncode
    return worst


if __name__ == "__main__":
    sys.exit(main())

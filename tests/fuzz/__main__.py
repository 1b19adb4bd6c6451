"""`python -m tests.fuzz`: more cases than the tests read, or others."""

import argparse
import sys

from tests.fuzz import __doc__ as description
from tests.fuzz.readers import READERS
from tests.fuzz.runner import FAULTS, run, table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=500, help="of each reader (default 500)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--readers", nargs="+", choices=READERS, default=list(READERS), metavar="READER", help=", ".join(READERS)
    )
    arguments = parser.parse_args()
    results = []
    for name in arguments.readers:
        for result in run(name, arguments.cases, arguments.seed):
            results.append(result)
            if result.outcome in FAULTS:
                print(f"{result.outcome}: {name} {result.number} ({result.change}): {result.detail}", flush=True)
    print(table(results))
    return int(any(result.outcome in FAULTS for result in results))


if __name__ == "__main__":
    sys.exit(main())

"""Print the table of cases: ``python -m tests.cases [KIND ...]``; ends with 1 if one is not as it must be."""

import sys
import tempfile
from pathlib import Path

from tests.cases import Case, kinds


def _now(case: Case) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return case.observe(Path(folder))


def main(chosen: list[str]) -> int:
    """Print a row a case, of the chosen kinds or of all."""
    wrong = cases = 0
    known = kinds()
    if unknown := set(chosen) - set(known):
        print(f"no such kind: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        return 2
    for kind, its_cases in known.items():
        if chosen and kind not in chosen:
            continue
        print(f"\n## {kind}\n\n| case | given | before | now |\n|---|---|---|---|")
        for case in its_cases:
            now = _now(case)
            cases += 1
            wrong += now != case.after
            print(
                f"| {case.id} | {case.given} | {case.before} | {now}{'' if now == case.after else ' (WRONG)'} |",
                flush=True,
            )
    print(f"\n{cases} cases, {wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

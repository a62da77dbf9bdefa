import subprocess
import sys

from scripts import size


def test_files_are_counted_by_their_lines():
    found = {path: lines for lines, path in size.sizes(("scripts",))}
    text = (size.ROOT / "scripts" / "size.py").read_text()
    assert found["scripts/size.py"] == len(text.splitlines())
    assert "scripts/test.sh" in found


def test_product_and_tests_are_told_apart():
    product = {path.split("/")[0] for _, path in size.sizes(size.PRODUCT)}
    assert "tests" not in product
    assert "graph" in product
    assert size.tests_per_product_line() > 0


def test_the_table_is_worst_first_and_ends_with_the_ratio():
    done = subprocess.run(
        [sys.executable, "-m", "scripts.size"],
        capture_output=True,
        text=True,
        check=False,
        cwd=size.ROOT,
    )
    table, _, rest = done.stdout.partition("\n\n")
    counts = [int(line.split()[0]) for line in table.splitlines()]
    assert counts == sorted(counts, reverse=True)
    assert "tests : product = " in rest.splitlines()[-1]
    assert done.returncode == (1 if size.oversized() else 0)

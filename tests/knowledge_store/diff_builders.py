"""Diffs, pull requests and bundles for tests, and the law that says what a diff means."""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from hypothesis import strategies as st

from knowledge_store.pulls import Hunk, PullRequest

KEY = "owner/name#12"

KERNEL = """\
diff --git a/csrc/attention.cu b/csrc/attention.cu
index 1111111..2222222 100644
--- a/csrc/attention.cu
+++ b/csrc/attention.cu
@@ -10,6 +10,8 @@ __global__ void attend(const float* q, float* out)
   int lane = threadIdx.x % 32;
   float sum = 0.f;
-  for (int i = lane; i < n; i += 32) sum += q[i];
+  for (int i = lane; i < n; i += 32) {
+    sum += __ldg(q + i);
+  }
   out[0] = sum;
 }
 // end
"""


def make_pull(**changes) -> PullRequest:
    fields = {"repo": "owner/name", "number": 12, "title": "Load through the cache"}
    return PullRequest(**{**fields, "origin": "bundle", **changes})


def make_diff(files: Mapping[str, tuple[Sequence[str], Sequence[str]]], context: int = 3) -> bytes:
    """Return what git prints for files given as (old lines, new lines) without line ends."""
    parts: list[str] = []
    for path, (old, new) in files.items():
        parts.append(f"diff --git a/{path} b/{path}\n")
        if not old:
            parts.append("new file mode 100644\n")
        elif not new:
            parts.append("deleted file mode 100644\n")
        parts += difflib.unified_diff(
            [line + "\n" for line in old],
            [line + "\n" for line in new],
            f"a/{path}" if old else "/dev/null",
            f"b/{path}" if new else "/dev/null",
            n=context,
        )
    return "".join(parts).encode()


def applied(old: Sequence[str], hunks: Sequence[Hunk]) -> list[str]:
    """Return a file after its hunks: what they mean, by the old file and the lines alone."""
    new: list[str] = []
    at = 0
    for hunk in hunks:
        start = hunk.old_start - 1 if hunk.old_count else hunk.old_start
        new += old[at:start]
        at = start
        for line in hunk.lines:
            mark, text = line[:1], line[1:]
            if mark in {" ", "-"}:
                assert old[at] == text
                at += 1
            if mark in {" ", "+"}:
                new.append(text)
    return [*new, *old[at:]]


LINES = st.one_of(
    st.sampled_from(
        [
            "",
            "    ",
            "def forward(x):",
            "__global__ void add(float* x) {",
            "template <int N>",
            "-- x",
            "++ b/other",
            "@@ -1,3 +1,4 @@",
            "diff --git a/x b/x",
            "\\ No newline at end of file",
            "+",
            "-",
            "\tint lane = threadIdx.x;\r",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=60),
)
"""Lines that look like headers among any others; only a newline ends one."""

FILES = st.lists(LINES, max_size=40)


@st.composite
def edits(draw) -> tuple[list[str], list[str]]:
    """A file before and after a change of it; never both empty or equal."""
    old = draw(FILES)
    new = list(old)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(new)))
        end = min(len(new), start + draw(st.integers(0, 5)))
        new[start:end] = draw(st.lists(LINES, max_size=6))
    if old == new:
        new = [*new, "one more"]
    return old, new


PATHS = st.sampled_from(
    ["csrc/gemm.cu", "python/ops/norm.py", "docs/notes.md", "tests/test_rope.py", "a b/c d.h"]
)
CHANGES = st.dictionaries(PATHS, edits(), min_size=1, max_size=4)


def write_bundle(folder: Path, *, diff: bytes | None = KERNEL.encode(), **changes) -> Path:
    """Write a bundle of the newest shape; `origin` and `upstream` replace its records."""
    folder.mkdir(parents=True)
    number = int(folder.name.removeprefix("gh-"))
    origin = {"repo": "owner/name", "pr_number": number, "title": "Load through the cache"}
    forge = {"number": number, "title": "Load through the cache", "body": "Faster."}
    upstream = {"pull": {**forge, "html_url": f"https://github.com/owner/name/pull/{number}"}}
    (folder / "ORIGIN.yaml").write_text(yaml.safe_dump(changes.get("origin", origin)))
    (folder / "upstream.json").write_text(json.dumps(changes.get("upstream", upstream)))
    if diff is not None:
        (folder / "review.diff").write_bytes(diff)
    return folder

"""Small stores for tests of exact search, and the plain scan that every answer must equal."""

import re
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from knowledge_store.exact import Exact, ExactAnswer, ExactQuery
from knowledge_store.pulls import PullRequest
from knowledge_store.truth import Truth

Place = tuple[str, int]

KERNEL = b"""\
diff --git a/csrc/softmax.cu b/csrc/softmax.cu
index 1111111..2222222 100644
--- a/csrc/softmax.cu
+++ b/csrc/softmax.cu
@@ -10,6 +10,8 @@ __global__ void softmax(float* x)
   int lane = threadIdx.x % 32;
   float m = -INFINITY;
-  for (int i = 0; i < n; i++) m = max(m, x[i]);
+  for (int i = lane; i < n; i += 32) m = fmaxf(m, __ldg(x + i));
+  m = fmaxf(m, __shfl_xor_sync(0xffffffff, m, 16));
+  m = fmaxf(m, __shfl_xor_sync(0xffffffff, m, 8));
   float s = 0;
   return;
 }
@@ -40 +42 @@
-  int num_warps = 4;
+  int num_warps = 8;
"""
TEST = b"""\
diff --git a/tests/test_softmax.py b/tests/test_softmax.py
new file mode 100644
index 0000000..3333333
--- /dev/null
+++ b/tests/test_softmax.py
@@ -0,0 +1,3 @@
+def test_softmax():
+    num_warps = 8
+    return softmax(x)
"""


def pull(key: str, **facts: object) -> PullRequest:
    repo, _, number = key.partition("#")
    return PullRequest.model_validate(
        {"repo": repo, "number": int(number), "origin": "bundle", **facts}
    )


def put(store: Path, diffs: Mapping[str, bytes | None], **facts: object) -> None:
    with Truth(store) as truth:
        for key, diff in diffs.items():
            truth.put(pull(key, **facts), diff)


def indexed(store: Path, diffs: Mapping[str, bytes | None], **facts: object) -> Exact:
    """Return the updated index of a store that holds some diffs."""
    put(store, diffs, **facts)
    return updated(store)


def updated(store: Path) -> Exact:
    exact = Exact(store)
    with Truth(store, read_only=True) as truth:
        exact.update(truth)
    return exact


def ask(pattern: str | tuple[str, ...], mode: str = "literal", **more: object) -> ExactQuery:
    patterns = (pattern,) if isinstance(pattern, str) else pattern
    return ExactQuery.model_validate({"patterns": patterns, "mode": mode, "limit": 10**6, **more})


def places(answer: ExactAnswer) -> set[Place]:
    found = [(hit.key, hit.diff_line) for hit in answer.hits]
    assert len(found) == len(set(found)) == answer.total_hits
    return set(found)


def lines_of(diff: bytes) -> list[bytes]:
    """Return the lines as `grep -n` counts them."""
    return diff.removesuffix(b"\n").split(b"\n") if diff else []


def plain_pattern(
    pattern: str, mode: str = "literal", *, ignore_case: bool = False
) -> re.Pattern[bytes]:
    source = pattern.encode("utf-8", "surrogateescape")
    if mode != "regex":
        source = re.escape(source)
    if mode == "word":
        source = rb"(?<![0-9A-Za-z_])" + source + rb"(?![0-9A-Za-z_])"
    return re.compile(source, re.IGNORECASE if ignore_case else 0)


def plain_scan(diffs: Mapping[str, bytes | None], expression: re.Pattern[bytes]) -> set[Place]:
    return {
        (key, number)
        for key, diff in diffs.items()
        for number, line in enumerate(lines_of(diff or b""), start=1)
        if expression.search(line)
    }


# Letters that meet each other often, so that random patterns match random lines.
LETTERS = "abAB_1 .+-(\t\r\x00\x0bé"
texts = st.text(LETTERS, max_size=12)
diff_bytes = st.lists(
    st.one_of(
        texts.map(str.encode), st.binary(max_size=6).map(lambda raw: raw.replace(b"\n", b""))
    ),
    max_size=12,
).map(b"\n".join)
corpora = st.lists(st.tuples(diff_bytes, st.booleans()), min_size=1, max_size=4).map(
    lambda drawn: {
        f"o/r#{number}": diff + b"\n" * ended for number, (diff, ended) in enumerate(drawn, start=1)
    }
)
_atoms = st.sampled_from(
    ["a", "b", "A", "_", "1", "ab", "aB1", r"\.", r"\+", r"\(", " ", "é", ".", r"\w", r"\W", r"\d",
     r"\D", r"\s", r"\S", "[ab]", "[^ab]", "[a-b1]", r"[^\w]", r"[\d_]", r"\x00", r"[\x80-\xff]",
     "^", "$", r"\b", r"\A", r"\Z", r"\t", r"\r"]
)  # fmt: skip
_odd = st.sampled_from(["(?=a)", "(?!a)", "(?<=a)", "(?<!b)", r"\B", "(?>a|ab)", "a++", r"(a|b)\1"])
_counts = st.sampled_from(["", "", "", "?", "*", "+", "{2}", "{1,2}", "*?", "+?", "{2,}"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = st.sampled_from(["(?:{})", "({})", "(?i:{})", "(?P<x>{})"])
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(groups, inner, _counts).map(lambda t: t[0].format(t[1]) + t[2]),
    )


_simple = st.tuples(_atoms, _counts).map(
    lambda t: t[0] + (t[1] if t[0] not in {"^", "$", r"\b", r"\A", r"\Z", "é", "ab", "aB1"} else "")
)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern.encode())
    except re.error:
        return False
    return True


regular = st.recursive(_simple, _grown, max_leaves=6).filter(_compiles)
"""Regular expressions that ripgrep has an equal of."""
expressions = st.recursive(st.one_of(_simple, _simple, _odd), _grown, max_leaves=6).filter(
    _compiles
)

"""Stores of a few invented pull requests, for tests of what is made from a truth."""

from pathlib import Path
from typing import Any

from knowledge_store.pulls import PullRequest
from knowledge_store.truth import Truth

SWIZZLE = """\
diff --git a/csrc/epilogue.cu b/csrc/epilogue.cu
--- a/csrc/epilogue.cu
+++ b/csrc/epilogue.cu
@@ -10,3 +10,6 @@ __global__ void store_epilogue(float* out) {
   int lane = threadIdx.x;
+  // swizzle the columns so that no two lanes meet in one bank
+  int column = swizzle_bank(lane ^ row);
+  smem[column] = out[lane];
   __syncthreads();
   return;
"""
PAGED = """\
diff --git a/attention/paged.py b/attention/paged.py
--- a/attention/paged.py
+++ b/attention/paged.py
@@ -1,3 +1,5 @@ def paged_attention(query, key_cache):
 import torch
+def gather_page_table(page_table, block_size):
+    return page_table[:, ::block_size]

 x = 1
diff --git a/tests/test_paged.py b/tests/test_paged.py
new file mode 100644
--- /dev/null
+++ b/tests/test_paged.py
@@ -0,0 +1,2 @@
+def test_paged():
+    assert gather_page_table(None, 1)
"""
FENCE = """\
diff --git a/include/umma.cuh b/include/umma.cuh
--- a/include/umma.cuh
+++ b/include/umma.cuh
@@ -5,2 +5,4 @@ __device__ void issue() {
   issue_mma();
+  asm volatile("tcgen05.fence::after_thread_sync;");
+  asm volatile("tcgen05.commit;");
 }
"""


def make_pull(number: int = 1, **changes: Any) -> PullRequest:
    repo = changes.pop("repo", "maker/fastlib")
    fields: dict[str, Any] = {
        "repo": repo,
        "number": number,
        "title": f"Change number {number}",
        "url": f"https://github.com/{repo}/pull/{number}",
        "merged_at": "2025-03-01",
        "licence": "Apache-2.0",
        "origin": "bundle",
        **changes,
    }
    return PullRequest.model_validate(fields)


def small_corpus() -> list[tuple[PullRequest, bytes | None]]:
    return [
        (
            make_pull(
                1,
                title="Avoid shared memory bank conflicts in the epilogue",
                body="Profiling showed many replays. Follows #2 and other/lib#7.",
            ),
            SWIZZLE.encode(),
        ),
        (
            make_pull(
                2,
                title="Support paged attention with block tables",
                body="Long prompts need a cache in pages.",
                merged_at="2024-06-01",
                licence="unknown",
            ),
            PAGED.encode(),
        ),
        (
            make_pull(
                7, repo="other/lib", title="Order tensor cores with a fence", body="Blackwell only."
            ),
            FENCE.encode(),
        ),
        (make_pull(9, repo="other/lib", title="A change whose diff was lost"), None),
    ]


def fill(folder: Path) -> Path:
    """Write the small corpus into the truth of a store; return the store's folder."""
    with Truth(folder) as truth:
        for pull, diff in small_corpus():
            truth.put(pull, diff)
    return folder

"""The state machine of a run, its directory, its settings and the command line."""

import os

os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")
# langgraph reads both when it is imported, which only modules of this package do: its default
# constructs whatever class a checkpoint's bytes name, and tracing sends prompts to a third party.

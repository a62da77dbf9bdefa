"""Where each part of a store lies. Pure."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StorePlaces:
    """Paths below one folder; everything but the truth can be thrown away."""

    folder: Path

    @property
    def truth(self) -> Path:
        """Return the one database that is not an index."""
        return self.folder / "truth.sqlite"

    @property
    def exact(self) -> Path:
        """Return the folder of exact search."""
        return self.folder / "exact"

    @property
    def lexical(self) -> Path:
        """Return the folder of the indices of words."""
        return self.folder / "lexical"

    @property
    def chroma(self) -> Path:
        """Return the folder of the database of vectors."""
        return self.folder / "chroma"

    @property
    def embeddings(self) -> Path:
        """Return the file of vectors made before."""
        return self.folder / "embeddings.sqlite"

    @property
    def sources(self) -> Path:
        """Return the folder of cloned repositories."""
        return self.folder / "sources"

    @property
    def measured(self) -> Path:
        """Return the folder of indices that a measurement withholds something from."""
        return self.folder / "measured"

    @property
    def building(self) -> Path:
        """Return the lock that whoever builds holds."""
        return self.folder / "build.lock"

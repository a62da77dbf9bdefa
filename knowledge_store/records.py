"""The unit of evidence: a Passage, with where it came from. Nouns only."""

from pydantic import BaseModel, ConfigDict, Field


class Passage(BaseModel):
    """Some lines of a text that can be found again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the searched folder, which `source` names."""
    source: str = ""
    """What was searched: a label that a reader can resolve, or a repository."""
    first_line: int = Field(ge=1)
    last_line: int = Field(ge=1)
    text: str
    """The lines themselves, without a final newline."""
    repo: str = ""
    pr: int | None = None
    commit: str = ""
    licence: str = ""

    @property
    def lines(self) -> str:
        """Return the range as citations write it: `12-18`, or `12`."""
        if self.first_line == self.last_line:
            return str(self.first_line)
        return f"{self.first_line}-{self.last_line}"

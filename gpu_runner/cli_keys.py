"""The commands `keys` of `kernelpilot-runner`: make a pair, enrol it, strike it out, look, try.

Heavy imports are inside the commands, so that help is instant.
"""

import json
import logging
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gpu_runner.security.keys import Keys as Proofs
    from gpu_runner.security.peers import AllowList, Holder

logger = logging.getLogger(__name__)

app = typer.Typer(
    help="Keys of a pool that others can reach: every broker, worker and client has a pair of its "
    "own, made where it is used; the broker's folder holds the list of those who may come in.",
    no_args_is_help=True,
)

OwnKeys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        help="Folder of this program's key pair, of `keys new`. Without one only addresses of "
        "this machine are used and nobody proves anything.",
        metavar="DIR",
        file_okay=False,
    ),
]
Folder = Annotated[
    Path,
    typer.Option(
        "--keys",
        help="Folder of keys; a broker's holds the list `peers.toml`.",
        metavar="DIR",
        file_okay=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class RoleName(StrEnum):
    """What a key is for, as an option."""

    CLIENT = "client"
    WORKER = "worker"
    OPERATOR = "operator"


class Exit(IntEnum):
    """Exit codes of `check`; those of the others are the program's own."""

    ADMITTED = 0
    REFUSED = 1
    NOBODY = 3


@app.command()
def new(
    folder: Folder,
    broker: Annotated[
        str | None,
        typer.Option(
            help="Public key of the broker, as `keys new` printed it there; of a worker or client.",
            metavar="KEY",
        ),
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a key pair, or keep the one that is there, and print its public half.

    The secret stays in DIR, readable by its owner alone. Never copy it: make a pair for each host.
    """
    from gpu_runner.security.keys import make_pair, note_broker  # noqa: PLC0415 - see above

    pair, is_new = make_pair(folder)
    if broker is not None:
        note_broker(folder, broker)
    facts = {"public": pair.public, "is_new": is_new, "folder": str(folder), "broker": broker}
    _say(as_json, facts, pair.public)


@app.command()
def enroll(
    key: Annotated[str, typer.Argument(help="Public key, of `keys new`.", metavar="KEY")],
    folder: Folder,
    role: Annotated[
        RoleName,
        typer.Option(help="client: runs. worker: runs jobs. operator: looks and cancels."),
    ],
    name: Annotated[
        str, typer.Option(help="Of a worker: the --name it is started with.", metavar="NAME")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Put a key on the broker's list; a running broker reads it within a second.

    A name may have two keys while one replaces the other.
    """
    from pydantic import ValidationError  # noqa: PLC0415 - see above

    from gpu_runner.security.keys import checked_key  # noqa: PLC0415 - see above
    from gpu_runner.security.peer_file import change_peers  # noqa: PLC0415 - see above
    from gpu_runner.security.peers import Holder, Role  # noqa: PLC0415 - see above

    try:
        holder = Holder(key=checked_key(key), role=Role(role), name=name)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise typer.BadParameter(f"--name {name!r}: {said}") from error
    change_peers(folder, lambda allowed: allowed.enrolled(holder))
    _say(as_json, _facts(holder), f"enrolled {holder.role} {holder.name}")


@app.command()
def revoke(
    who: Annotated[str, typer.Argument(help="A name, or one key.", metavar="NAME|KEY")],
    folder: Folder,
    *,
    as_json: Json = False,
) -> None:
    """Strike a key, or every key of a name, from the broker's list.

    A running broker neither hears nor answers it any more within a second, connected or not.
    """
    from gpu_runner.security.peer_file import change_peers  # noqa: PLC0415 - see above

    struck: list[Holder] = []

    def change(allowed: "AllowList") -> "AllowList":
        changed, holders = allowed.revoking(who)
        struck[:] = holders
        return changed

    change_peers(folder, change)
    words = "\n".join(f"revoked {h.role} {h.name} {h.key}" for h in struck)
    _say(as_json, [_facts(holder) for holder in struck], words)


@app.command("list")
def list_keys(folder: Folder, *, as_json: Json = False) -> None:
    """Print who is on the broker's list."""
    from gpu_runner.security.peer_file import load_peers  # noqa: PLC0415 - see above

    holders = load_peers(folder).peer
    words = [
        f"{h.role:<9} {h.name:<24} {'revoked ' if h.revoked else 'admitted'} {h.key}"
        for h in holders
    ]
    _say(as_json, [_facts(holder) for holder in holders], "\n".join(words) or "nobody is enrolled")


@app.command()
def check(
    folder: Folder,
    endpoint: Annotated[str, typer.Option(help="The broker's: `tcp://HOST:PORT`.", metavar="URL")],
    *,
    as_json: Json = False,
) -> None:
    """Try the handshake and say what came of it; nothing is sent after it.

    Exit code: 0 admitted, 1 refused or revoked, 3 nobody there.
    """
    from gpu_runner.security.keys import load_keys  # noqa: PLC0415 - see above
    from gpu_runner.security.knock import Answer, knock  # noqa: PLC0415 - see above

    proofs = load_keys(folder)
    answer = knock(endpoint, proofs)
    words = {
        Answer.ADMITTED: f"the broker at {endpoint} admits this key",
        Answer.REVOKED: f"the broker at {endpoint} has revoked this key; make a new pair in "
        "another folder and have it enrolled",
        Answer.REFUSED: f"the broker at {endpoint} does not admit this key. Either it is not "
        f"enrolled; on the broker's host: {_enrolment(proofs.pair.public)}\nOr "
        f"{folder}/broker.public is not what `keys new` prints there",
        Answer.NOBODY: f"nothing answers at {endpoint}; start it with: "
        "kernelpilot-runner broker --keys DIR",
    }
    _say(as_json, {"answer": answer.value, "public": proofs.pair.public}, words[answer])
    codes = {Answer.ADMITTED: Exit.ADMITTED, Answer.NOBODY: Exit.NOBODY}
    raise typer.Exit(codes.get(answer, Exit.REFUSED))


def worker_keys(folder: Path | None, workspace: Path, endpoint: str) -> "Proofs | None":
    """Return what a worker proves itself by, and say in its log if the broker does not know it.

    Raises:
        PoolError: the keys cannot be used, or a candidate could read them.
    """
    if folder is None:
        return None
    from gpu_runner.security.keys import load_keys  # noqa: PLC0415 - see above
    from gpu_runner.security.knock import Answer, knock  # noqa: PLC0415 - see above
    from gpu_runner.security.reach import check_out_of_reach  # noqa: PLC0415 - see above

    check_out_of_reach(folder, workspace)
    proofs = load_keys(folder)
    answer = knock(endpoint, proofs)
    if answer in {Answer.REFUSED, Answer.REVOKED}:
        logger.warning(
            "the broker does not admit this key (%s); on its host: %s",
            answer,
            _enrolment(proofs.pair.public),
        )
    elif answer is Answer.NOBODY:
        logger.warning("no broker answers yet endpoint=%s", endpoint)
    return proofs


def _enrolment(key: str) -> str:
    return f"kernelpilot-runner keys enroll {key} --role ROLE --name NAME --keys DIR"


def _facts(holder: "Holder") -> dict[str, Any]:
    return holder.model_dump(mode="json")


def _say(as_json: bool, facts: object, words: str) -> None:  # noqa: FBT001 - one choice of form
    typer.echo(json.dumps(facts) if as_json else words)

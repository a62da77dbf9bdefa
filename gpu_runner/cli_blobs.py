"""The commands `blobs` of `kernelpilot-runner`: send a file to a broker's store, fetch it, ask.

Heavy imports are inside the commands, so that help is instant.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_runner.cli_keys import OwnKeys

if TYPE_CHECKING:
    from gpu_runner.blobs.client import BlobClient

app = typer.Typer(
    help="Large files of a pool: named by their sha256, sent in pieces over sockets of their own, "
    "and gone on with where they were interrupted. The broker keeps them (`--blobs DIR`).",
    no_args_is_help=True,
)

BlobFolder = Annotated[
    Path | None,
    typer.Option(
        "--blobs",
        help="Directory of a store of large files that is served beside the jobs, on the next port "
        "(tcp) or at the socket's path with `.blobs` (ipc). Without it there is none.",
        metavar="DIR",
        file_okay=False,
    ),
]
Endpoint = Annotated[
    str,
    typer.Option(help="The broker's, as for workers; its store is found from it.", metavar="URL"),
]
Patience = Annotated[
    float, typer.Option(help="Seconds without an answer until it gives up.", min=0.1)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Digest = Annotated[str, typer.Argument(help="sha256 of the file, as `put` prints it.")]


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="The file.", metavar="FILE")],
    endpoint: Endpoint,
    keys: OwnKeys = None,
    patience_s: Patience = 120.0,
    *,
    as_json: Json = False,
) -> None:
    """Send a file, or what is missing of it, and print its sha256."""
    with _client(endpoint, keys, patience_s) as blobs:
        digest = blobs.put(file)
    facts = {"digest": digest, "size_bytes": file.stat().st_size}
    typer.echo(json.dumps(facts) if as_json else digest)


@app.command()
def get(
    digest: Digest,
    endpoint: Endpoint,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write it.", metavar="FILE")
    ],
    keys: OwnKeys = None,
    patience_s: Patience = 120.0,
    *,
    as_json: Json = False,
) -> None:
    """Fetch a file, or what is missing of it; it is complete and verified, or not there."""
    with _client(endpoint, keys, patience_s) as blobs:
        blobs.get(_checked(digest), output)
    facts = {"digest": digest, "file": str(output), "size_bytes": output.stat().st_size}
    typer.echo(json.dumps(facts) if as_json else str(output))


@app.command()
def keep(
    digests: Annotated[list[str], typer.Argument(help="sha256 of files that are in use.")],
    endpoint: Endpoint,
    keys: OwnKeys = None,
    patience_s: Patience = 120.0,
    *,
    as_json: Json = False,
) -> None:
    """Let the time until files are collected begin anew; print those that are not there.

    Exit code: 0 all are there, 1 some are not.
    """
    with _client(endpoint, keys, patience_s) as blobs:
        missing = blobs.keep([_checked(digest) for digest in digests])
    typer.echo(json.dumps({"missing": missing}) if as_json else "\n".join(missing) or "all there")
    raise typer.Exit(1 if missing else 0)


def _client(endpoint: str, keys: Path | None, patience_s: float) -> "BlobClient":
    from gpu_runner.blobs.client import BlobClient  # noqa: PLC0415 - see above
    from gpu_runner.blobs.server import blob_endpoint  # noqa: PLC0415 - see above

    return BlobClient(blob_endpoint(endpoint), keys=keys, patience_s=patience_s)


def _checked(digest: str) -> str:
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - see above

    from gpu_runner.message import Digest as Sha256  # noqa: PLC0415 - see above

    try:
        return str(TypeAdapter(Sha256).validate_python(digest))
    except ValidationError as error:
        raise typer.BadParameter(f"{digest!r} is no sha256 (64 hexadecimal digits)") from error

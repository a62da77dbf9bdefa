"""Journeys of archives: out of an exchange folder, through a scenario pool, and back."""

from pathlib import Path

from gpu_runner.archive_content import read_jobs, write_results
from gpu_runner.archive_exchange import Exchange, Imported
from gpu_runner.message import digest_of
from gpu_runner.spool import encode_outcome
from tests.graph.builders import make_environment
from tests.graph.pool import ScenarioPool


async def carry(exchange: Exchange, folder: Path, pool: ScenarioPool, **machine) -> Imported:
    """Export what waits, run it as the texts of its candidates say, import the outcomes."""
    exchange.export(folder / "jobs.zip", "a-run")
    archive = read_jobs(folder / "jobs.zip")
    contents = {
        job.job_id: encode_outcome(await pool.run(job), spec_digest=digest_of(job), token=1)
        for job in archive.jobs
    }
    environment = make_environment(**machine)
    write_results(folder / "results.zip", archive.origin, environment, contents)
    return exchange.take_in(folder / "results.zip")

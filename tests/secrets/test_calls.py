"""What functions return, raise, print and log does not hold the token."""

from __future__ import annotations

import http.client
import io
import logging
import pickle
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

import driver
import nd_multicore
from nd_synapse.errors import NDSynapseError
from nd_synapse.geometry import Box
from nd_synapse.job.job import Job
from NeuroDataResource import NeuroDataResource
from tests.fixtures_boss import BossServer
from tests.secrets.functions import confides
from tests.secrets.looked import MARK, Looked, config


class TestImported:
    """What functions return and raise."""

    def test_returned_values_and_errors_do_not_hold_it(self, boss: BossServer, echo: str, tmp_path: Path) -> None:
        looked = Looked("driver.driver(), get_data(), errors of them")
        ranges = ((0, 4), (0, 48), (0, 56))
        returned = driver.driver(boss.url, MARK, "small", "plain", *ranges, tmp_path, plots=False, cpus=1)
        for value in (returned, driver.get_data(boss.url, MARK, "small", "plain", *ranges)):
            looked.at("repr of returned values", repr(value))
            looked.at("pickle of returned values", pickle.dumps(value))
        z, y, x = ranges
        volume = NeuroDataResource(boss.url, MARK, "small", "plain", [], x, y, z)
        job = Job(host=boss.url, token=volume.token, collection="small", experiment="plain", box=Box(*ranges))
        looked.at(
            "repr of values",
            repr([volume, job, volume.token, vars(volume)]) + str(job.requested()) + str(volume.describe()),
        )
        for holder in (volume, job, volume.token):
            with pytest.raises(TypeError, match="token is pickled only"):
                pickle.dumps(holder)
        for part in (volume.remote, volume.remote.volume_service, volume.remote.project_service.session):
            looked.at("what intern's objects hold", f"{vars(part)} {pickle.dumps(part)!r}")
        for url, exp in [(boss.url, "missing"), (echo, "plain")]:
            with pytest.raises(NDSynapseError) as caught:
                driver.driver(url, MARK, "small", exp, *ranges, tmp_path, plots=False, cpus=1)
            looked.at("tracebacks", "".join(traceback.format_exception(caught.value)))
            looked.at("pickle of errors", pickle.dumps(caught.value))
            cause = caught.value.__cause__
            while cause is not None:
                looked.at("repr of causes", f"{cause!r} {vars(cause)}")
                answer = getattr(cause, "response", None)
                if answer is not None:
                    looked.at("answers that causes hold", f"{answer.text} {answer.headers}")
                    looked.at("pickle of causes", pickle.dumps(cause))
                cause = cause.__cause__ or cause.__context__
        looked.below(tmp_path)
        looked.done(0)

    def test_a_function_that_prints_and_logs_what_it_was_given_does_not_show_it(
        self, boss: BossServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """In its closure and in its arguments; workers import no program that they could ask for it."""
        looked = Looked("nd_multicore.run_parallel(), a function that prints and logs the token in its closure")
        secret = MARK

        def function(given: str, data_dict: Mapping[str, object]) -> None:
            confides(secret)
            confides(given)

        cfg = config(tmp_path / "neurodata.cfg", boss.url)
        nd_multicore.run_parallel(cfg, partial(function, MARK), 1, block_size=(56, 48, 4))
        looked.at("output", "".join(capfd.readouterr()))
        looked.at("records", caplog.text)
        looked.done(0)

    def test_programs_that_print_what_is_sent_do_not_print_it(
        self, boss: BossServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program that imports us may have http.client print requests, and every logger log all."""
        looked = Looked("driver.get_data(), http.client printing, loggers at DEBUG")
        monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
        shown = io.StringIO()
        handler = logging.StreamHandler(shown)
        root = logging.getLogger()
        loggers = [root, logging.getLogger("urllib3")]
        before = [logger.level for logger in loggers]
        root.addHandler(handler)
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        try:
            driver.get_data(boss.url, MARK, "small", "plain", (0, 4), (0, 48), (0, 56))
        finally:
            root.removeHandler(handler)
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
        looked.at("stdout", "".join(capsys.readouterr()))
        looked.at("loggers", shown.getvalue())
        assert "/v1/cutout/" in shown.getvalue()
        looked.done(0)

"""A sweep that MLflow is to show. MLflow is imported where it is needed: it takes seconds."""

import shutil

import pytest

from bench.planning import suite as suites
from bench.planning.plan import plan, publish


@pytest.fixture(scope="session")
def schema(tmp_path_factory):
    """An empty database, made once: MLflow takes seconds to create its tables."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def bare(tmp_path, tiny):
    """A published suite with one finished and one running run, their logs written as a trainer would."""
    from projected import write

    suite = suites.load(tiny())
    runs = plan(suite)
    publish(suite, runs, tmp_path)
    write(runs[0].folder(tmp_path), runs[0].config, 6, done=True)
    write(runs[1].folder(tmp_path), runs[1].config, 3)
    return tmp_path


@pytest.fixture
def root(bare, schema):
    shutil.copy(schema, bare / "mlflow.db")
    return bare


@pytest.fixture
def second(root):
    """The run that is under way."""
    return plan(suites.load(str(root / "tiny.yaml")))[1]

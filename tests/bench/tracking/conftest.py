"""A sweep that MLflow is to show. MLflow is imported where it is needed: it takes seconds."""

import shutil

import pytest


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
    from projected import planned, publish, write

    tiny()
    publish(tmp_path)
    first, second, *_ = planned(tmp_path)
    write(first.folder(tmp_path), first.config, 6, done=True)
    write(second.folder(tmp_path), second.config, 3)
    return tmp_path


@pytest.fixture
def root(bare, schema):
    shutil.copy(schema, bare / "mlflow.db")
    return bare


@pytest.fixture
def second(root):
    """The run that is under way."""
    from projected import planned

    return planned(root)[1]
